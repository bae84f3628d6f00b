//! The files under `tests/vectors`.

use data_encoding::{BASE64, BASE64_NOPAD};
use serde_json::Value;

pub(crate) fn text(path: &str) -> String {
    let file = format!("{}/tests/vectors/{path}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file}: {error}"))
}

pub(crate) fn json(path: &str) -> Value {
    serde_json::from_str(&text(path)).unwrap()
}

/// The lines of a syntax file, without comments.
pub(crate) fn lines(path: &str) -> Vec<String> {
    let wanted = |line: &&str| !line.is_empty() && !line.starts_with('#');
    text(path).lines().filter(wanted).map(str::to_owned).collect()
}

pub(crate) fn base64(text: &str) -> Vec<u8> {
    let encoding = if text.ends_with('=') { BASE64 } else { BASE64_NOPAD };
    encoding.decode(text.as_bytes()).unwrap()
}

/// All CARs of real commits: of the live network and of the reference PDS.
pub(crate) fn cars() -> Vec<Vec<u8>> {
    COMMITS.iter().map(|(name, _)| Event::read(name).car).collect()
}

/// The four real commits, and the root of the tree before, if the nodes that inversion needs are
/// among their blocks. The events have no `prevData` to compare with. The root before 4621332152
/// was computed by a program of its own that removes one record after the other, those of the
/// lowest layer first (in the order of its ops they cannot be removed one by one, as nodes to be
/// merged on the way are absent). The one before 4623075231 is what stands beside its only record.
pub(crate) const COMMITS: [(&str, Option<&str>); 4] = [
    ("4621317030", None),
    ("4621317332", None),
    ("4621332152", Some("bafyreid4lxi7jmskjiigk6lfsmm55qmyy5zepfqlus5csbo37i4uc7drs4")),
    ("4623075231", Some("bafyreicfeeojgjj7gtgl6go25tk5jmcuoytjp5hhulbdd7gwzk7gtqw3ka")),
];

/// A `#commit` in its JSON form.
pub(crate) struct Event {
    pub(crate) repo: String,
    pub(crate) rev: String,
    pub(crate) commit: String,
    pub(crate) car: Vec<u8>,
    /// Path and record; all are creates.
    pub(crate) creates: Vec<(String, protocol::cid::Cid)>,
}

impl Event {
    pub(crate) fn read(name: &str) -> Self {
        let json = json(&format!("commits/firehose_commit_{name}.json"));
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let create = |op: &Value| {
            assert_eq!(op["action"], "create");
            (text(&op["path"]), op["cid"]["$link"].as_str().unwrap().parse().unwrap())
        };
        Self {
            repo: text(&json["repo"]),
            rev: text(&json["rev"]),
            commit: text(&json["commit"]["$link"]),
            car: base64(json["blocks"]["$bytes"].as_str().unwrap()),
            creates: json["ops"].as_array().unwrap().iter().map(create).collect(),
        }
    }
}
