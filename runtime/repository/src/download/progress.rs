//! Who is told how far a download is.

/// Is told when downloads begin. Implemented by the terminal and by the log.
pub trait Progress: Send + Sync + std::fmt::Debug {
    /// A download of `size` bytes begins, of which `present` were there already. `object` is its URI without secrets.
    fn begin(&self, object: &str, size: u64, present: u64) -> Box<dyn Meter>;
}

/// Is told how one download goes on. Dropped at its end, whichever it is.
pub trait Meter: Send + Sync {
    /// So many bytes more are on the disk.
    fn advance(&self, bytes: u64);
    /// It is whole and checked.
    fn finish(&self);
}

/// Tells nobody.
#[derive(Debug)]
pub(crate) struct Silent;

impl Progress for Silent {
    fn begin(&self, _: &str, _: u64, _: u64) -> Box<dyn Meter> {
        Box::new(Silent)
    }
}

impl Meter for Silent {
    fn advance(&self, _: u64) {}
    fn finish(&self) {}
}
