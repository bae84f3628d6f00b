//! What a host answers about the content of repos: CAR files, as the reference PDS makes them.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use http::{StatusCode, header};
use protocol::cid::Cid;

use super::Shared;
use super::answers::{Parameters, refusal, row_of, unavailable};
use crate::wire::{Block, car};
use crate::world::shelf::Shelf;

/// `com.atproto.sync.getRecord`: a record's proof, or the proof that it is not there.
pub(super) async fn get_record(
    State(shared): State<Arc<Shared>>,
    Query(parameters): Parameters,
) -> Response {
    let shelf = match shelf_of(&shared, parameters.get("did")) {
        Ok(shelf) => shelf,
        Err(response) => return *response,
    };
    let (Some(collection), Some(rkey)) = (parameters.get("collection"), parameters.get("rkey"))
    else {
        return refusal(StatusCode::BAD_REQUEST, "InvalidRequest");
    };
    whole(shelf.proof(&format!("{collection}/{rkey}")))
}

/// `com.atproto.sync.getBlocks`: a CAR without roots.
pub(super) async fn get_blocks(
    State(shared): State<Arc<Shared>>,
    Query(parameters): Query<Vec<(String, String)>>,
) -> Response {
    let all = |name: &str| {
        let named = parameters.iter().filter(|(key, _)| key == name);
        named.map(|(_, value)| value.clone()).collect::<Vec<String>>()
    };
    let shelf = match shelf_of(&shared, all("did").first()) {
        Ok(shelf) => shelf,
        Err(response) => return *response,
    };
    match shelf.blocks(&all("cids")) {
        Ok(blocks) => chunked(car(&[], &blocks)),
        // "Could not find cids", says the reference PDS.
        Err(_missing) => refusal(StatusCode::BAD_REQUEST, "InvalidRequest"),
    }
}

/// `com.atproto.sync.getRepo`. `since` saves nothing here: more than what was asked for is right.
pub(super) async fn get_repo(
    State(shared): State<Arc<Shared>>,
    Query(parameters): Parameters,
) -> Response {
    match shelf_of(&shared, parameters.get("did")) {
        Ok(shelf) => whole(shelf.export()),
        Err(response) => *response,
    }
}

/// The shelf of an account of which content may be given.
fn shelf_of(shared: &Shared, did: Option<&String>) -> Result<Shelf, Box<Response>> {
    let row = row_of(shared, did);
    match &row {
        Some(row) if row.standing.is_active() => Ok(row.shelf.clone()),
        _ => Err(Box::new(unavailable(row.as_ref()))),
    }
}

fn whole(found: Option<(Cid, Vec<Block>)>) -> Response {
    match found {
        Some((root, blocks)) => chunked(car(&[root.to_bytes().to_vec()], &blocks)),
        None => refusal(StatusCode::BAD_REQUEST, "RepoNotFound"),
    }
}

/// Without a length, as a PDS sends it that reads while it sends.
fn chunked(car: Vec<u8>) -> Response {
    let car = Bytes::from(car);
    let starts = (0..car.len()).step_by(CHUNK_BYTES);
    let chunks: Vec<Result<Bytes, Infallible>> =
        starts.map(|start| Ok(car.slice(start..car.len().min(start + CHUNK_BYTES)))).collect();
    (CAR, Body::from_stream(stream::iter(chunks))).into_response()
}

/// A body of zeros without an end.
pub(super) fn endless() -> Response {
    let zeros = Bytes::from_static(&[0; CHUNK_BYTES]);
    let chunks = stream::repeat_with(move || Ok::<_, Infallible>(zeros.clone()));
    (CAR, Body::from_stream(chunks)).into_response()
}

const CAR: [(header::HeaderName, &str); 1] = [(header::CONTENT_TYPE, "application/vnd.ipld.car")];
/// As Node.js does.
const CHUNK_BYTES: usize = 16 * 1024;
