//! A disk as bad as it may be: what of a folder is left when the power goes.
//!
//! The model. What a file held at its last sync is there. What was written to it since is there or
//! not, page by page (4 KiB) and in any order; a page may be torn between sectors (512 bytes), or
//! be as it was at some moment in between. Its size is one that it had since the sync, whatever
//! became of its bytes: what was never written reads as zeros. Entries of folders (made, renamed,
//! removed) reach the disk in the order in which they happened, as the journals of ext4 and XFS
//! have it, and for certain only by a sync of a folder: the sync of a new file, or of a renamed
//! one, does not make its name durable. `sync_file_range` makes nothing durable.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use bytes::Bytes;

use super::journal::Op;

/// What became of what the disk did not have for certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// All of it is lost.
    Nothing,
    /// All of it was written back just in time.
    Everything,
    /// Names and bytes by chance.
    Chance,
    /// Names are there, and bytes by chance.
    Names,
}

/// Files by path, and folders.
pub type Image = BTreeMap<String, Option<Vec<u8>>>;

/// A folder as it is, and as the disk has it.
#[derive(Default)]
pub struct Disk {
    files: Vec<File>,
    now: Tree,
    durable: Tree,
    /// Changes of `now` that `durable` lacks, in order.
    pending: Vec<Entry>,
    open: HashMap<i32, Opened>,
    /// Says that it has synced, and has not.
    lies: bool,
}

#[derive(Clone)]
struct Opened {
    node: Node,
    path: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Folder,
    File(usize),
}

#[derive(Clone, Default)]
struct Tree(BTreeMap<String, Node>);

#[derive(Clone, Debug)]
enum Entry {
    Make(String, Node),
    Remove(String),
    Rename(String, String),
}

#[derive(Default)]
struct File {
    now: Vec<u8>,
    durable: Vec<u8>,
    /// What makes `now` of `durable`, in order.
    unsynced: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Write { at: usize, data: Bytes },
    Zero { from: usize, to: usize },
    Size(usize),
}

impl Disk {
    /// An empty folder.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty folder on a disk that syncs nothing.
    pub fn lying() -> Self {
        Self { lies: true, ..Self::default() }
    }

    /// The file that a descriptor is of, as a path.
    pub fn path(&self, fd: i32) -> &str {
        self.open.get(&fd).map_or("", |opened| &opened.path)
    }

    /// Does what was done.
    pub fn apply(&mut self, op: &Op) {
        match op {
            Op::Start => self.open.clear(),
            Op::Open { fd, create, truncate, path } => self.opened(*fd, *create, *truncate, path),
            Op::Close { fd } => {
                self.open.remove(fd);
            }
            Op::Duplicate { fd, copy } => {
                let opened = self.open[fd].clone();
                self.open.insert(*copy, opened);
            }
            Op::Write { fd, offset, data } => {
                let at = usize::try_from(*offset).unwrap();
                self.file(*fd).change(Change::Write { at, data: data.clone() });
            }
            Op::Truncate { fd, size } => {
                self.file(*fd).change(Change::Size(usize::try_from(*size).unwrap()));
            }
            Op::TruncatePath { path, size } => {
                let Node::File(file) = self.now.0[path] else { panic!("{path} is a folder") };
                self.files[file].change(Change::Size(usize::try_from(*size).unwrap()));
            }
            Op::Allocate { fd, offset, len, keeps_size, punches } => {
                let from = usize::try_from(*offset).unwrap();
                let to = from + usize::try_from(*len).unwrap();
                let file = self.file(*fd);
                if *punches {
                    file.change(Change::Zero { from, to: to.min(file.now.len()) });
                } else if !keeps_size && to > file.now.len() {
                    file.change(Change::Size(to));
                }
            }
            Op::Sync { .. } | Op::SyncAll if self.lies => {}
            Op::Sync { fd } => match self.open[fd].node {
                Node::File(file) => self.files[file].sync(),
                Node::Folder => self.sync_names(),
            },
            Op::SyncAll => {
                self.files.iter_mut().for_each(File::sync);
                self.sync_names();
            }
            Op::Rename { from, to } => self.enter(Entry::Rename(from.clone(), to.clone())),
            Op::Link { from, to } => {
                let node = self.now.0[from];
                self.enter(Entry::Make(to.clone(), node));
            }
            Op::Unlink { path } | Op::RemoveFolder { path } => {
                self.enter(Entry::Remove(path.clone()));
            }
            Op::MakeFolder { path } => self.enter(Entry::Make(path.clone(), Node::Folder)),
            Op::SyncNothing | Op::Fault { .. } => {}
        }
    }

    fn opened(&mut self, fd: i32, create: bool, truncate: bool, path: &str) {
        let node = if path.is_empty() {
            Node::Folder
        } else if let Some(node) = self.now.0.get(path) {
            *node
        } else {
            assert!(create, "{path} was opened and never made");
            let node = Node::File(self.files.len());
            self.files.push(File::default());
            self.enter(Entry::Make(path.to_owned(), node));
            node
        };
        if let Node::File(file) = node
            && truncate
            && !self.files[file].now.is_empty()
        {
            self.files[file].change(Change::Size(0));
        }
        self.open.insert(fd, Opened { node, path: path.to_owned() });
    }

    fn file(&mut self, fd: i32) -> &mut File {
        let Node::File(file) = self.open[&fd].node else { panic!("{fd} is a folder") };
        &mut self.files[file]
    }

    fn enter(&mut self, entry: Entry) {
        self.now.enter(&entry);
        self.pending.push(entry);
    }

    fn sync_names(&mut self) {
        for entry in self.pending.drain(..) {
            self.durable.enter(&entry);
        }
    }

    /// The folder as it is, without any cut.
    pub fn whole(&self) -> Image {
        self.now.image(|file| self.files[file].now.clone())
    }

    /// What a power cut leaves of it.
    pub fn after_power_cut(&self, fate: Fate, chance: &mut Chance) -> Image {
        let entries = match fate {
            Fate::Nothing => 0,
            Fate::Everything | Fate::Names => self.pending.len(),
            Fate::Chance => chance.below(self.pending.len() + 1),
        };
        let mut tree = self.durable.clone();
        self.pending[..entries].iter().for_each(|entry| tree.enter(entry));
        tree.image(|file| match fate {
            Fate::Nothing => self.files[file].durable.clone(),
            Fate::Everything => self.files[file].now.clone(),
            Fate::Chance | Fate::Names => self.files[file].by_chance(chance),
        })
    }
}

/// Makes a folder of an image.
pub fn write(image: &Image, folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    for (path, bytes) in image {
        let path = folder.join(path);
        match bytes {
            None => std::fs::create_dir_all(path).unwrap(),
            Some(bytes) => std::fs::write(path, bytes).unwrap(),
        }
    }
}

/// Makes an image of a folder.
pub fn read(folder: &Path) -> Image {
    let mut image = Image::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
            if path.is_dir() {
                image.insert(name, None);
                folders.push(path);
            } else {
                image.insert(name, Some(std::fs::read(path).unwrap()));
            }
        }
    }
    image
}

impl Tree {
    fn enter(&mut self, entry: &Entry) {
        match entry {
            Entry::Make(path, node) => {
                self.0.insert(path.clone(), *node);
            }
            Entry::Remove(path) => {
                self.0.remove(path);
            }
            Entry::Rename(from, to) => {
                let node = self.0.remove(from).expect("what is renamed is there");
                assert!(matches!(node, Node::File(_)), "a folder was renamed: {from}");
                self.0.insert(to.clone(), node);
            }
        }
    }

    fn image(&self, mut bytes: impl FnMut(usize) -> Vec<u8>) -> Image {
        let content = |node: &Node| match node {
            Node::Folder => None,
            Node::File(file) => Some(bytes(*file)),
        };
        let nodes: Vec<_> = self.0.values().map(content).collect();
        self.0.keys().cloned().zip(nodes).collect()
    }
}

impl File {
    fn change(&mut self, change: Change) {
        change.apply(&mut self.now);
        self.unsynced.push(change);
    }

    fn sync(&mut self) {
        for change in self.unsynced.drain(..) {
            change.apply(&mut self.durable);
        }
    }

    fn by_chance(&self, chance: &mut Chance) -> Vec<u8> {
        if self.unsynced.is_empty() {
            return self.durable.clone();
        }
        // Which changes concern each page, and every size that the file has had.
        let mut sizes = vec![self.durable.len()];
        let mut touches: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        let mut pages: BTreeSet<usize> = BTreeSet::new();
        for (index, change) in self.unsynced.iter().enumerate() {
            let before = sizes[sizes.len() - 1];
            let (from, to, size) = change.reach(before);
            sizes.push(size);
            if from < to {
                for page in from / PAGE..=(to - 1) / PAGE {
                    touches.entry(page).or_default().push(index);
                    pages.insert(page);
                }
            }
        }
        let size = sizes[chance.below(sizes.len())];
        let mut bytes = self.durable.clone();
        bytes.resize(size.max(bytes.len()), 0);
        for page in pages {
            let touches = &touches[&page];
            let page_now = |versions: usize| self.page(page, &touches[..versions]);
            let mut content = page_now(chance.below(touches.len() + 1));
            if chance.below(4) == 0 {
                let other = page_now(chance.below(touches.len() + 1));
                for sector in 0..PAGE / SECTOR {
                    if chance.below(2) == 0 {
                        let sector = sector * SECTOR..(sector + 1) * SECTOR;
                        content[sector.clone()].copy_from_slice(&other[sector]);
                    }
                }
            }
            let start = page * PAGE;
            let end = bytes.len().min(start + PAGE);
            if start < end {
                bytes[start..end].copy_from_slice(&content[..end - start]);
            }
        }
        bytes.truncate(size);
        bytes
    }

    /// A page as it was after these changes.
    fn page(&self, page: usize, changes: &[usize]) -> Vec<u8> {
        let start = page * PAGE;
        let durable = self.durable.get(start..).unwrap_or_default();
        let mut content = durable[..durable.len().min(PAGE)].to_vec();
        content.resize(PAGE, 0);
        for change in changes.iter().map(|index| &self.unsynced[*index]) {
            let (from, to) = match change {
                Change::Write { at, data } => (*at, at + data.len()),
                Change::Zero { from, to } => (*from, *to),
                Change::Size(size) => (*size, usize::MAX),
            };
            let (from, to) = (from.max(start), to.min(start + PAGE));
            if from >= to {
                continue;
            }
            let place = &mut content[from - start..to - start];
            match change {
                Change::Write { at, data } => place.copy_from_slice(&data[from - at..to - at]),
                Change::Zero { .. } | Change::Size(_) => place.fill(0),
            }
        }
        content
    }
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write { at, data } => {
                bytes.resize(bytes.len().max(at + data.len()), 0);
                bytes[*at..at + data.len()].copy_from_slice(data);
            }
            Self::Zero { from, to } if from < to => bytes[*from..*to].fill(0),
            Self::Zero { .. } => {}
            Self::Size(size) => bytes.resize(*size, 0),
        }
    }

    /// From where to where it changes bytes, and the size that it leaves.
    fn reach(&self, size: usize) -> (usize, usize, usize) {
        match self {
            Self::Write { at, data } => (*at, at + data.len(), size.max(at + data.len())),
            Self::Zero { from, to } => (*from, *to, size),
            Self::Size(new) => ((*new).min(size), size, *new),
        }
    }
}

/// Numbers from a seed.
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Below `end`, which is not zero.
    pub fn below(&mut self, end: usize) -> usize {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % end as u64).unwrap()
    }
}

const PAGE: usize = 4096;
const SECTOR: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of `written` bytes, of which the first `synced` were synced before the rest came.
    fn file(disk: &mut Disk, synced: usize, written: usize) {
        let write = |disk: &mut Disk, from: usize, to: usize| {
            let data = Bytes::from(vec![7; to - from]);
            disk.apply(&Op::Write { fd: 3, offset: from as u64, data });
        };
        disk.apply(&Op::Open { fd: 9, create: false, truncate: false, path: String::new() });
        disk.apply(&Op::Open { fd: 3, create: true, truncate: false, path: "a".to_owned() });
        write(disk, 0, synced);
        disk.apply(&Op::Sync { fd: 3 });
        disk.apply(&Op::Sync { fd: 9 });
        write(disk, synced, written);
    }

    #[test]
    fn what_was_synced_stays_and_the_rest_may_be_anything() {
        let mut disk = Disk::new();
        file(&mut disk, 5_000, 20_000);
        let (mut sizes, mut zeros, mut whole) = (BTreeSet::new(), 0, 0);
        for seed in 0..200 {
            let image = disk.after_power_cut(Fate::Chance, &mut Chance::new(seed));
            let bytes = image["a"].as_ref().unwrap();
            assert!(bytes[..5_000].iter().all(|byte| *byte == 7));
            assert!(bytes.iter().all(|byte| [0, 7].contains(byte)));
            sizes.insert(bytes.len());
            zeros += usize::from(bytes[5_000..].contains(&0));
            whole += usize::from(bytes.len() == 20_000 && !bytes.contains(&0));
        }
        assert_eq!(sizes, [5_000, 20_000].into());
        assert!(zeros > 0 && whole > 0, "{zeros} {whole}");
        let left = |fate| disk.after_power_cut(fate, &mut Chance::new(1))["a"].clone().unwrap();
        assert_eq!(left(Fate::Nothing), vec![7; 5_000]);
        assert_eq!(left(Fate::Everything), vec![7; 20_000]);
    }

    #[test]
    fn names_come_in_order_and_for_certain_only_with_their_folder() {
        let mut disk = Disk::new();
        file(&mut disk, 10, 10);
        let rename = |from: &str, to: &str| Op::Rename { from: from.into(), to: to.into() };
        disk.apply(&rename("a", "b"));
        disk.apply(&Op::MakeFolder { path: "c".to_owned() });
        disk.apply(&Op::Sync { fd: 3 });
        let names = |disk: &Disk, seed| -> Vec<String> {
            disk.after_power_cut(Fate::Chance, &mut Chance::new(seed)).into_keys().collect()
        };
        let seen: BTreeSet<_> = (0..50).map(|seed| names(&disk, seed)).collect();
        let expected = [vec!["a"], vec!["b"], vec!["b", "c"]];
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), expected);
        disk.apply(&Op::Sync { fd: 9 });
        assert!((0..50).all(|seed| names(&disk, seed) == ["b", "c"]));
    }

    #[test]
    fn a_disk_that_lies_has_nothing() {
        let mut disk = Disk::lying();
        file(&mut disk, 10, 10);
        assert!(disk.after_power_cut(Fate::Nothing, &mut Chance::new(1)).is_empty());
        assert_eq!(disk.whole()["a"], Some(vec![7; 10]));
    }
}
