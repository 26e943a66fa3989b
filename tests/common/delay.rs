//! A network path in user space: forwards one TCP and UDP port pair on loopback with the delay and loss a test
//! requests.
//!
//! A policy decides on each datagram by its direction, number and bytes, so tests are repeatable. TCP stays reliable
//! and in order: its bytes are delayed, and wait while the path is silent.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use socket2::SockRef;

/// How often the threads check whether to stop.
const TICK: Duration = Duration::from_millis(20);

/// The direction of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    There,
    Back,
}

/// A datagram for a policy to decide on.
pub(crate) struct Datagram<'a> {
    pub(crate) way: Way,
    /// Counted from 0 per direction.
    pub(crate) number: u64,
    pub(crate) bytes: &'a [u8],
}

/// The fate of a datagram: a delay for each forwarded copy. None means a loss.
type Policy = dyn Fn(&Datagram<'_>) -> Vec<Duration> + Send + Sync;

/// The path. Dropping it ends its threads.
pub(crate) struct Delay {
    /// The address clients connect to.
    pub(crate) address: SocketAddr,
    path: Arc<Path>,
    threads: Vec<JoinHandle<()>>,
}

struct Path {
    server: SocketAddr,
    /// TCP delays, to the server and to the client.
    delays: [Duration; 2],
    policy: Box<Policy>,
    numbers: [AtomicU64; 2],
    stop: AtomicBool,
    /// End of a silence in both directions.
    silent: Mutex<Option<Instant>>,
    /// No TCP bytes pass to the client until then.
    paused: Mutex<Option<Instant>>,
    /// Open TCP connections.
    connections: Mutex<Vec<Arc<Connection>>>,
    opened: AtomicU64,
    /// The socket towards the server for each client port.
    flows: Mutex<HashMap<SocketAddr, Arc<UdpSocket>>>,
    later: Mutex<Sender<Later>>,
}

/// A TCP connection of a client, and the corresponding one to the server.
struct Connection {
    near: TcpStream,
    far: TcpStream,
    is_reset: AtomicBool,
}

/// A delayed datagram.
struct Later {
    due: Instant,
    bytes: Vec<u8>,
    from: Arc<UdpSocket>,
    to: SocketAddr,
}

impl Delay {
    /// A path to `server` with these one-way delays.
    #[track_caller]
    pub(crate) fn new(server: SocketAddr, there: Duration, back: Duration) -> Self {
        Self::with(server, there, back, move |datagram| match datagram.way {
            Way::There => vec![there],
            Way::Back => vec![back],
        })
    }

    /// A path with these delays for TCP and `policy` for datagrams.
    #[track_caller]
    pub(crate) fn with(
        server: SocketAddr,
        there: Duration,
        back: Duration,
        policy: impl Fn(&Datagram<'_>) -> Vec<Duration> + Send + Sync + 'static,
    ) -> Self {
        let (listener, front) = both();
        let address = listener.local_addr().unwrap();
        let (later, queue) = mpsc::channel();
        let path = Arc::new(Path {
            server,
            delays: [there, back],
            policy: Box::new(policy),
            numbers: [AtomicU64::new(0), AtomicU64::new(0)],
            stop: AtomicBool::new(false),
            silent: Mutex::new(None),
            paused: Mutex::new(None),
            connections: Mutex::default(),
            opened: AtomicU64::new(0),
            flows: Mutex::default(),
            later: Mutex::new(later),
        });
        let threads = [
            spawn(&path, move |path| path.accept(&listener)),
            spawn(&path, move |path| path.forward(front)),
            spawn(&path, move |path| path.deliver(&queue)),
        ];
        Self {
            address,
            path,
            threads: threads.into(),
        }
    }

    /// Silences the path for `time`: datagrams are lost, and TCP bytes wait.
    pub(crate) fn silence(&self, time: Duration) {
        *self.path.silent.lock().unwrap() = Some(Instant::now() + time);
    }

    /// Resets every TCP connection. Bytes in transit are lost.
    pub(crate) fn reset(&self) {
        for connection in self.path.connections.lock().unwrap().drain(..) {
            connection.reset();
        }
    }

    /// Moves every UDP flow to another port towards the server, like an address translator that lost its mapping.
    pub(crate) fn rebind(&self) {
        self.path.flows.lock().unwrap().clear();
    }

    /// Delays only the TCP bytes from the server for `time`.
    pub(crate) fn hold_answers(&self, time: Duration) {
        *self.path.paused.lock().unwrap() = Some(Instant::now() + time);
    }

    /// Datagrams of one direction so far.
    pub(crate) fn datagrams(&self, way: Way) -> u64 {
        self.path.numbers[way as usize].load(Ordering::Relaxed)
    }

    /// TCP connections so far.
    pub(crate) fn connections(&self) -> u64 {
        self.path.opened.load(Ordering::Relaxed)
    }
}

impl Drop for Delay {
    fn drop(&mut self) {
        self.path.stop.store(true, Ordering::Relaxed);
        self.reset();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Path {
    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Remaining time of silence.
    fn silence(&self) -> Duration {
        left(*self.silent.lock().unwrap())
    }

    /// Remaining time without TCP bytes in this direction.
    fn pause(&self, way: Way) -> Duration {
        match way {
            Way::There => self.silence(),
            Way::Back => self.silence().max(left(*self.paused.lock().unwrap())),
        }
    }

    /// Accepts TCP connections and forwards each in both directions.
    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        listener.set_nonblocking(true).unwrap();
        while !self.is_stopped() {
            let near = match listener.accept() {
                Ok((near, _)) => near,
                Err(_) => {
                    thread::sleep(Duration::from_millis(1));
                    continue;
                }
            };
            let Ok(far) = TcpStream::connect(self.server) else {
                // As a host without a listener does.
                let _ = SockRef::from(&near).set_linger(Some(Duration::ZERO));
                continue;
            };
            self.opened.fetch_add(1, Ordering::Relaxed);
            near.set_nonblocking(false).unwrap();
            for stream in [&near, &far] {
                stream.set_nodelay(true).unwrap();
                stream.set_read_timeout(Some(TICK)).unwrap();
            }
            let connection = Arc::new(Connection {
                near,
                far,
                is_reset: AtomicBool::new(false),
            });
            for (way, delay) in [Way::There, Way::Back].into_iter().zip(self.delays) {
                let connection = Arc::clone(&connection);
                spawn(self, move |path| path.carry(&connection, way, delay));
            }
            self.connections.lock().unwrap().push(connection);
        }
    }

    /// Forwards one direction of a TCP connection.
    fn carry(self: &Arc<Self>, connection: &Arc<Connection>, way: Way, delay: Duration) {
        let (sender, queue) = mpsc::channel::<(Instant, Vec<u8>)>();
        let writes = Arc::clone(connection);
        spawn(self, move |path| {
            let mut to = writes.towards(way);
            while let Ok((due, bytes)) = queue.recv() {
                while let left = due
                    .saturating_duration_since(Instant::now())
                    .max(path.pause(way))
                    && !left.is_zero()
                    && !writes.is_over()
                    && !path.is_stopped()
                {
                    thread::sleep(left.min(TICK));
                }
                if writes.is_over() || to.write_all(&bytes).is_err() {
                    return;
                }
            }
            if !writes.is_over() {
                let _ = to.shutdown(Shutdown::Write);
            }
        });
        let mut from = connection.from(way);
        let mut bytes = [0; 1 << 14];
        while !self.is_stopped() && !connection.is_over() {
            match from.read(&mut bytes) {
                Ok(0) => return,
                Ok(count) => {
                    let late = (Instant::now() + delay, bytes[..count].to_vec());
                    if sender.send(late).is_err() {
                        return;
                    }
                }
                Err(error) if is_timeout(error.kind()) => {}
                // Closes the other end too.
                Err(_) => return connection.reset(),
            }
        }
    }

    /// Receives from clients.
    fn forward(self: &Arc<Self>, front: UdpSocket) {
        let front = Arc::new(front);
        let mut bytes = [0; 1 << 16];
        while !self.is_stopped() {
            let Ok((count, client)) = front.recv_from(&mut bytes) else {
                continue;
            };
            let known = self.flows.lock().unwrap().get(&client).cloned();
            let flow = known.unwrap_or_else(|| self.open(client, &front));
            self.pass(Way::There, &bytes[..count], &flow, self.server);
        }
    }

    /// A socket for a client's port, and a thread that receives on it.
    fn open(self: &Arc<Self>, client: SocketAddr, front: &Arc<UdpSocket>) -> Arc<UdpSocket> {
        let flow = Arc::new(large(UdpSocket::bind("127.0.0.1:0").unwrap()));
        self.flows.lock().unwrap().insert(client, Arc::clone(&flow));
        let (taken, front) = (Arc::clone(&flow), Arc::clone(front));
        spawn(self, move |path| {
            let mut bytes = [0; 1 << 16];
            while !path.is_stopped() {
                let Ok(count) = taken.recv(&mut bytes) else {
                    continue;
                };
                // Datagrams to an abandoned port are lost.
                let flows = path.flows.lock().unwrap();
                let is_open = flows
                    .get(&client)
                    .is_some_and(|flow| Arc::ptr_eq(flow, &taken));
                drop(flows);
                if !is_open {
                    return;
                }
                path.pass(Way::Back, &bytes[..count], &front, client);
            }
        });
        flow
    }

    fn pass(&self, way: Way, bytes: &[u8], from: &Arc<UdpSocket>, to: SocketAddr) {
        let number = self.numbers[way as usize].fetch_add(1, Ordering::Relaxed);
        if !self.silence().is_zero() {
            return;
        }
        let now = Instant::now();
        for delay in (self.policy)(&Datagram { way, number, bytes }) {
            let later = Later {
                due: now + delay,
                bytes: bytes.to_vec(),
                from: Arc::clone(from),
                to,
            };
            let _ = self.later.lock().unwrap().send(later);
        }
    }

    /// Sends each datagram when due. Datagrams due at the same time keep their order.
    fn deliver(&self, queue: &Receiver<Later>) {
        let mut waiting: BinaryHeap<Reverse<(Instant, u64)>> = BinaryHeap::new();
        let mut kept: HashMap<u64, Later> = HashMap::new();
        for number in 0.. {
            if self.is_stopped() {
                return;
            }
            let next = waiting.peek().map(|Reverse((due, _))| *due);
            let wait = next.map_or(TICK, |due| due.saturating_duration_since(Instant::now()));
            match queue.recv_timeout(wait.min(TICK)) {
                Ok(later) => {
                    waiting.push(Reverse((later.due, number)));
                    kept.insert(number, later);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            while let Some(Reverse((due, number))) = waiting.peek().copied()
                && due <= Instant::now()
            {
                waiting.pop();
                if let Some(later) = kept.remove(&number) {
                    let _ = later.from.send_to(&later.bytes, later.to);
                }
            }
        }
    }
}

impl Connection {
    fn from(&self, way: Way) -> &TcpStream {
        match way {
            Way::There => &self.near,
            Way::Back => &self.far,
        }
    }

    fn towards(&self, way: Way) -> &TcpStream {
        match way {
            Way::There => &self.far,
            Way::Back => &self.near,
        }
    }

    fn is_over(&self) -> bool {
        self.is_reset.load(Ordering::Relaxed)
    }

    /// The threads of the connection end, and the last closes both ends. With a linger time of 0 the close is a reset.
    fn reset(&self) {
        for stream in [&self.near, &self.far] {
            let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
        self.is_reset.store(true, Ordering::Relaxed);
    }
}

fn left(until: Option<Instant>) -> Duration {
    until.map_or(Duration::ZERO, |until| {
        until.saturating_duration_since(Instant::now())
    })
}

fn spawn(path: &Arc<Path>, run: impl FnOnce(&Arc<Path>) + Send + 'static) -> JoinHandle<()> {
    let path = Arc::clone(path);
    thread::spawn(move || run(&path))
}

/// A loopback port that is free for both protocols.
fn both() -> (TcpListener, UdpSocket) {
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        if let Ok(socket) = UdpSocket::bind(listener.local_addr().unwrap()) {
            return (listener, large(socket));
        }
    }
}

/// A socket with buffers large enough for delays of its thread.
fn large(socket: UdpSocket) -> UdpSocket {
    let _ = SockRef::from(&socket).set_recv_buffer_size(4 << 20);
    socket.set_read_timeout(Some(TICK)).unwrap();
    socket
}

fn is_timeout(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    )
}
