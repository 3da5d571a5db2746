//! (to be written)
use crate::messages::backend::Format;
/// stub
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stub")]
pub struct AssembleError;
/// stub
pub struct Assembly(Vec<u8>);
impl Assembly {
    /// stub
    pub fn new(_: Format, _: usize) -> Self {
        Self(Vec::new())
    }
    /// stub
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), AssembleError> {
        self.0.extend(bytes);
        Ok(())
    }
    /// stub
    pub fn finish(self) -> Result<Vec<u8>, AssembleError> {
        Ok(self.0)
    }
}
