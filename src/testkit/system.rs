//! Runs the bodies of tests.

use actix_rt::SystemRunner;
use futures_util::FutureExt;

/// Runs the body of a test like `actix_rt::System`, and is faster to compile.
///
/// `actix_rt::System` compiles the runtime's code again for the body of each test. Here all bodies are of one type. The
/// tests of this crate compile in half the time.
///
/// ```
/// #[actix_rt::test(system = "outpost::testkit::System")]
/// async fn a_test() {}
/// ```
#[derive(Debug)]
pub struct System(SystemRunner);

impl System {
    /// A system on this thread.
    #[expect(clippy::new_without_default, reason = "it starts a runtime, and is called by the attribute alone")]
    pub fn new() -> Self {
        Self(actix_rt::System::new())
    }

    /// Runs the body of a test to its end.
    pub fn block_on(&self, body: impl Future<Output = ()>) {
        self.0.block_on(body.boxed_local());
    }
}
