//! The hop: a process of one thread that copies bytes between two connections and reads nothing into them. It costs what
//! any process between client and backend costs, so what outpost costs beyond it is outpost's own work.

use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpSocket, TcpStream};

use crate::process::Process;

/// The argument that makes this program a hop. The backend's address follows it.
pub const ARGUMENT: &str = "--hop";

/// Bytes of the one buffer of each direction.
const BUFFER: usize = 64 * 1024;

/// A running hop.
pub struct Hop {
    pub process: Process,
    /// Where it listens.
    pub addr: SocketAddr,
}

impl Hop {
    /// Starts this program once more, as a hop to the backend.
    pub fn start(backend: SocketAddr) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg(ARGUMENT).arg(backend.to_string()).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let process = Process::new(child);
        Self { process, addr: line.trim().parse().unwrap() }
    }
}

/// What the process does, until it is killed.
pub fn main(backend: SocketAddr) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    runtime.block_on(async {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let listener = socket.listen(8192).unwrap();
        println!("{}", listener.local_addr().unwrap());
        while let Ok((client, _)) = listener.accept().await {
            // An end of either side is no fault.
            tokio::spawn(async move { drop(relay(client, backend).await) });
        }
    });
}

async fn relay(mut client: TcpStream, backend: SocketAddr) -> io::Result<()> {
    let mut backend = TcpStream::connect(backend).await?;
    client.set_nodelay(true)?;
    backend.set_nodelay(true)?;
    let ((client_out, client_in), (backend_out, backend_in)) = (client.split(), backend.split());
    tokio::try_join!(copy(client_out, backend_in), copy(backend_out, client_in))?;
    Ok(())
}

async fn copy(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..read]).await?;
    }
}
