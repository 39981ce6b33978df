//! The folder that an archive is unpacked into: what is made in it, and never beside it.
//!
//! What was made is kept in mind, so that an entry behind a link is told from one behind a file. It is not what the
//! folder's safety rests on: each folder on the way is opened from the one before, and none of it through a link.

use std::collections::HashMap;
use std::fs::{File, Permissions};
use std::io::{self, Read, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, mkdirat, openat, symlinkat};

use crate::archive::budget::Budget;
use crate::archive::layer::Layer;
use crate::archive::name::{self, Name};
use crate::archive::{PIECE, Refusal, Unpacked};

/// Links behind links that are followed to see where one leads.
const MOST_HOPS: usize = 8;

/// What something is that was made.
#[derive(Debug)]
enum Node {
    /// By its place in `Folder::parents`.
    Folder(usize),
    File,
    /// Where it leads, in parts.
    Link(Vec<String>),
}

/// A folder that is being filled.
#[derive(Debug)]
pub(super) struct Folder<'a> {
    root: OwnedFd,
    pub(super) budget: Budget<'a>,
    pub(super) unpacked: Unpacked,
    /// Where it is a layer of an image.
    pub(super) layer: Option<Layer>,
    /// By the folder that each is in and its name there.
    nodes: HashMap<(usize, String), Node>,
    /// Of each folder the one that it is in. The first is the root, in none.
    parents: Vec<Option<usize>>,
    piece: Vec<u8>,
}

/// A place for something in a folder that is open.
struct Place<'a> {
    folder: usize,
    open: OwnedFd,
    last: &'a str,
}

impl<'a> Folder<'a> {
    pub(super) fn open(path: &Path, budget: Budget<'a>) -> io::Result<Self> {
        let root = openat(CWD, path, FOLDER, Mode::empty())?;
        let nodes = HashMap::new();
        let (unpacked, layer) = (Unpacked::default(), None);
        Ok(Self { root, budget, unpacked, layer, nodes, parents: vec![None], piece: vec![0; PIECE] })
    }

    /// What the archive calls `raw`. None if it is left out.
    pub(super) fn admit(&mut self, raw: &[u8]) -> Result<Option<Name>, Refusal> {
        self.budget.one_more(raw)?;
        let admitted = match &mut self.layer {
            Some(layer) => layer.admit(raw),
            None => Some(raw),
        };
        let Some(raw) = admitted else {
            self.unpacked.skipped += 1;
            return Ok(None);
        };
        let name = Name::parse(raw, self.budget.limits)?;
        if name.is_junk() {
            self.unpacked.skipped += 1;
            return Ok(None);
        }
        Ok(Some(name))
    }

    /// Makes a folder; that it is there is no fault.
    pub(super) fn folder(&mut self, name: &Name) -> Result<(), Refusal> {
        let Some((last, parents)) = name.parts.split_last() else { return Ok(()) };
        let (folder, open) = self.enter(name, parents)?;
        match self.nodes.get(&(folder, last.clone())) {
            Some(Node::Folder(_)) => Ok(()),
            Some(_) => Err(twice(name)),
            None => self.make_folder(&open, folder, last).map(drop),
        }
    }

    /// Makes a file of the next `size` bytes of `from`.
    pub(super) fn file(&mut self, name: &Name, from: &mut dyn Read, size: u64) -> Result<(), Refusal> {
        self.budget.allows(&name.raw, size)?;
        let place = self.place(name)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file =
            File::from(openat(&place.open, place.last, flags, Mode::from_raw_mode(0o600)).map_err(io::Error::from)?);
        file.set_permissions(Permissions::from_mode(0o644))?;
        self.nodes.insert((place.folder, place.last.to_owned()), Node::File);
        self.pour(&name.raw, from, size, Some(&mut file))?;
        self.unpacked.files += 1;
        self.unpacked.bytes += size;
        Ok(())
    }

    /// Makes a symbolic link. That it leads nowhere is no fault: what is there may come later, or not matter.
    pub(super) fn symbolic_link(&mut self, name: &Name, raw: &[u8]) -> Result<(), Refusal> {
        if self.layer.is_some() {
            return self.layer_link(name, raw);
        }
        let target = name::target(name, raw, self.budget.limits)?;
        // They take room on the disk, too.
        self.budget.spend(&name.raw, raw.len() as u64)?;
        let place = self.place(name)?;
        symlinkat(raw, &place.open, place.last).map_err(io::Error::from)?;
        self.nodes.insert((place.folder, place.last.to_owned()), Node::Link(target));
        self.unpacked.files += 1;
        Ok(())
    }

    /// Keeps a link of a layer in mind.
    fn layer_link(&mut self, name: &Name, raw: &[u8]) -> Result<(), Refusal> {
        self.budget.spend(&name.raw, raw.len() as u64)?;
        let place = self.place(name)?;
        self.nodes.insert((place.folder, place.last.to_owned()), Node::Link(Vec::new()));
        let target = std::str::from_utf8(raw).ok().filter(|target| target.len() < self.budget.limits.path);
        if let (Some(layer), Some(target)) = (&mut self.layer, target) {
            layer.links.insert(name.parts.join("/"), target.to_owned());
        }
        self.unpacked.files += 1;
        Ok(())
    }

    /// Makes a further name of the file that an earlier entry called `raw`.
    pub(super) fn hard_link(&mut self, name: &Name, raw: &[u8]) -> Result<(), Refusal> {
        let refused = |reason: &str| Refusal::entry(&name.raw, format!("{reason} '{}'", name::shown(raw)));
        // As names of layers do, some begin with a slash; and the file may be a link.
        let raw = if self.layer.is_some() { raw.strip_prefix(b"/").unwrap_or(raw) } else { raw };
        let target = Name::parse(raw, self.budget.limits).map_err(|refusal| match refusal {
            Refusal::Entry { reason, .. } => refused(&format!("is a hard link to what {reason}:")),
            other => other,
        })?;
        let linked = self.layer.as_ref().and_then(|layer| layer.links.get(&target.parts.join("/")).cloned());
        if let Some(to) = linked {
            return self.layer_link(name, to.as_bytes());
        }
        let is_file = self.at(&target.parts).is_some_and(|node| matches!(node, Node::File));
        let (true, Some((last, parents))) = (is_file, target.parts.split_last()) else {
            return Err(refused("is a hard link, but no file before it is"));
        };
        let (_, open) = self.enter(&target, parents)?;
        let place = self.place(name)?;
        linkat(open, last.as_str(), &place.open, place.last, AtFlags::empty()).map_err(io::Error::from)?;
        self.nodes.insert((place.folder, place.last.to_owned()), Node::File);
        self.unpacked.files += 1;
        Ok(())
    }

    /// Reads the next `size` bytes of `entry` and writes them, if anywhere.
    pub(super) fn pour(
        &mut self,
        entry: &[u8],
        from: &mut dyn Read,
        size: u64,
        mut into: Option<&mut File>,
    ) -> Result<(), Refusal> {
        let mut left = size;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
            let part = || format!("'{}'", name::shown(entry));
            let length = match from.read(&mut self.piece[..most]) {
                Ok(0) => return Err(Refusal::cut_short(&part())),
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Refusal::unreadable(&part(), error)),
            };
            self.budget.spend(entry, length as u64)?;
            if let Some(file) = &mut into {
                file.write_all(&self.piece[..length])?;
            }
            left -= length as u64;
        }
        Ok(())
    }

    /// What came of it, once no entry is left: only now it is known where each link leads.
    pub(super) fn finish(self) -> Result<Unpacked, Refusal> {
        for ((folder, name), node) in &self.nodes {
            let Node::Link(target) = node else { continue };
            if let Some(reason) = self.follow(*folder, target) {
                let raw = [&self.path(*folder)[..], &[name.as_str()]].concat().join("/");
                return Err(Refusal::entry(raw.as_bytes(), reason));
            }
        }
        if self.unpacked.files == 0 {
            return Err(Refusal::archive("holds no files"));
        }
        Ok(self.unpacked)
    }

    /// What is wrong with a link in `folder`, followed as the system does: `..` behind a link is not the way back.
    fn follow(&self, folder: usize, target: &[String]) -> Option<String> {
        let (mut at, mut hops) = (folder, 0);
        let mut parts: Vec<&str> = target.iter().rev().map(String::as_str).collect();
        while let Some(part) = parts.pop() {
            if part == ".." {
                let Some(parent) = self.parents[at] else {
                    return Some(format!(
                        "is a link out of its folder, to '{}'",
                        name::shown(target.join("/").as_bytes())
                    ));
                };
                at = parent;
                continue;
            }
            match self.nodes.get(&(at, part.to_owned())) {
                Some(Node::Folder(inner)) => at = *inner,
                Some(Node::Link(_)) if hops == MOST_HOPS => {
                    return Some(format!("is a link through more than {MOST_HOPS} others, or in a circle"));
                }
                Some(Node::Link(further)) => {
                    hops += 1;
                    parts.extend(further.iter().rev().map(String::as_str));
                }
                // The system, too, ends there.
                Some(Node::File) | None => return None,
            }
        }
        None
    }

    /// The names of the folders from the root to `folder`.
    fn path(&self, folder: usize) -> Vec<&str> {
        let mut names = Vec::new();
        let mut at = folder;
        while let Some(parent) = self.parents[at] {
            let is_it = |node: &Node| matches!(node, Node::Folder(inner) if *inner == at);
            names.extend(self.nodes.iter().find(|(_, node)| is_it(node)).map(|((_, name), _)| name.as_str()));
            at = parent;
        }
        names.reverse();
        names
    }

    /// What was made at a path.
    fn at(&self, parts: &[String]) -> Option<&Node> {
        let mut found = &Node::Folder(0);
        for part in parts {
            let Node::Folder(folder) = found else { return None };
            found = self.nodes.get(&(*folder, part.clone()))?;
        }
        Some(found)
    }

    /// A place where nothing is yet, and its folder, which is made if needed.
    fn place<'b>(&mut self, name: &'b Name) -> Result<Place<'b>, Refusal> {
        let Some((last, parents)) = name.parts.split_last() else {
            return Err(Refusal::entry(&name.raw, "names the folder itself, but is none"));
        };
        let (folder, open) = self.enter(name, parents)?;
        if self.nodes.contains_key(&(folder, last.clone())) {
            return Err(twice(name));
        }
        Ok(Place { folder, open, last })
    }

    /// Opens the folder of these parts, made where it is not there. `name` is why, for refusals.
    fn enter(&mut self, name: &Name, parts: &[String]) -> Result<(usize, OwnedFd), Refusal> {
        let mut open = self.root.as_fd().try_clone_to_owned()?;
        let mut folder = 0;
        for (depth, part) in parts.iter().enumerate() {
            let behind = |what| {
                let path = parts[..=depth].join("/");
                Refusal::entry(&name.raw, format!("lies behind '{}', which is a {what}", name::shown(path.as_bytes())))
            };
            (folder, open) = match self.nodes.get(&(folder, part.clone())) {
                Some(Node::Folder(inner)) => {
                    (*inner, openat(&open, part, FOLDER | OFlags::NOFOLLOW, Mode::empty()).map_err(io::Error::from)?)
                }
                Some(Node::Link(_)) => return Err(behind("link")),
                Some(Node::File) => return Err(behind("file")),
                None => {
                    self.budget.one_more(&name.raw)?;
                    self.make_folder(&open, folder, part)?
                }
            };
        }
        Ok((folder, open))
    }

    fn make_folder(&mut self, open: &OwnedFd, folder: usize, name: &str) -> Result<(usize, OwnedFd), Refusal> {
        mkdirat(open, name, Mode::from_raw_mode(0o700)).map_err(io::Error::from)?;
        let made = openat(open, name, FOLDER | OFlags::NOFOLLOW, Mode::empty()).map_err(io::Error::from)?;
        // Whatever the process masks.
        rustix::fs::fchmod(&made, Mode::from_raw_mode(0o755)).map_err(io::Error::from)?;
        let number = self.parents.len();
        self.parents.push(Some(folder));
        self.nodes.insert((folder, name.to_owned()), Node::Folder(number));
        Ok((number, made))
    }
}

/// How folders are opened.
const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

fn twice(name: &Name) -> Refusal {
    Refusal::entry(&name.raw, "occurs twice")
}
