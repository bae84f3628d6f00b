//! What reconciliation keeps, as rows.

use protocol::ids::Micros;

use super::VERSION;
use crate::hosts::{REASON_BYTES_MAX, cut};
use crate::reconcile::{Excused, ReconcileRow};
use crate::store::fields::{Fields, put_text};

/// `reconcile`, the row of a host.
pub(crate) fn reconcile(row: &ReconcileRow) -> Vec<u8> {
    // A cursor that is cut would be another one.
    let after = Some(row.after.as_str()).filter(|after| after.len() <= CURSOR_BYTES_MAX);
    let mut out = Vec::with_capacity(128 + row.reason.len() + row.after.len());
    out.push(VERSION);
    let numbers = [
        row.began.0,
        row.ended.0,
        row.listed,
        row.in_step,
        row.behind,
        row.repaired,
        row.unverifiable,
        row.failed,
        row.missing,
        row.second_look.0,
        row.last_full.0,
        row.last_full_listed,
        row.last_full_known,
        row.last_full_in_step,
        row.last_full_behind,
    ];
    numbers.iter().for_each(|number| out.extend_from_slice(&number.to_be_bytes()));
    put_text(&mut out, cut(&row.reason, REASON_BYTES_MAX));
    put_text(&mut out, after.unwrap_or_default());
    out
}

/// Reads what [`reconcile`] wrote.
pub(crate) fn read_reconcile(row: &[u8]) -> Option<ReconcileRow> {
    let mut fields = Fields::of(row, VERSION)?;
    let mut row = ReconcileRow {
        began: Micros(fields.u64()?),
        ended: Micros(fields.u64()?),
        ..ReconcileRow::default()
    };
    for number in [
        &mut row.listed,
        &mut row.in_step,
        &mut row.behind,
        &mut row.repaired,
        &mut row.unverifiable,
        &mut row.failed,
        &mut row.missing,
        &mut row.second_look.0,
        &mut row.last_full.0,
        &mut row.last_full_listed,
        &mut row.last_full_known,
        &mut row.last_full_in_step,
        &mut row.last_full_behind,
    ] {
        *number = fields.u64()?;
    }
    row.reason = fields.text()?.to_owned();
    row.after = fields.text()?.to_owned();
    fields.end()?;
    Some(row)
}

/// `reconcile`, the row of an account.
pub(crate) fn excused(excused: &Excused) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    out.push(VERSION);
    out.extend_from_slice(&excused.at.0.to_be_bytes());
    out.extend_from_slice(&excused.missing_since.0.to_be_bytes());
    put_text(&mut out, cut(&excused.rev, REASON_BYTES_MAX));
    put_text(&mut out, cut(&excused.head, REASON_BYTES_MAX));
    out
}

/// Reads what [`excused`] wrote.
pub(crate) fn read_excused(row: &[u8]) -> Option<Excused> {
    let mut fields = Fields::of(row, VERSION)?;
    let (at, missing_since) = (Micros(fields.u64()?), Micros(fields.u64()?));
    let (rev, head) = (fields.text()?.to_owned(), fields.text()?.to_owned());
    fields.end()?;
    Some(Excused { rev, head, at, missing_since })
}

/// A host makes up its cursors; honest ones have a hundredth of this.
const CURSOR_BYTES_MAX: usize = 4_096;
