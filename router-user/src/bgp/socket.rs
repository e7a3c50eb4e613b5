//! TCP sockets as BGP wants them, and their errors in words.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::{
    protection::{self, HOPS, ProtectionError},
    settings::Security,
};

/// Connections that wait to be accepted.
const ACCEPT_QUEUE: i32 = 128;

/// Connects from one of the instance's addresses.
pub(super) async fn connect(
    local: IpAddr,
    peer: SocketAddr,
    security: Security,
) -> io::Result<TcpStream> {
    let socket = open(peer)?;
    socket.set_tcp_nodelay(true)?;
    protection::prepare(&socket, peer.ip(), &security).map_err(io::Error::other)?;
    socket.bind(&SocketAddr::new(local, 0).into())?;
    TcpSocket::from_std_stream(socket.into())
        .connect(peer)
        .await
}

/// Listens on an instance's address; `prepare` sets the socket up before anybody can connect.
pub(super) fn listen(
    address: SocketAddr,
    prepare: impl FnOnce(&Socket),
) -> io::Result<TcpListener> {
    let socket = open(address)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    prepare(&socket);
    socket.listen(ACCEPT_QUEUE)?;
    TcpListener::from_std(socket.into())
}

/// Sets up an accepted connection of the peer.
pub(super) fn accepted(
    stream: &TcpStream,
    peer: IpAddr,
    security: &Security,
) -> Result<(), ProtectionError> {
    // Without it, what is sent is only later.
    let _ = stream.set_nodelay(true);
    protection::confirm(stream, peer, security)
}

/// Closes with a reset: the peer sees at once that nobody wants to talk to it.
pub(super) fn refuse(stream: TcpStream) {
    // If this fails, the connection is closed in order instead.
    let _ = SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO));
}

fn open(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM.nonblocking().cloexec(),
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    match address {
        SocketAddr::V4(_) => socket.set_ttl_v4(HOPS)?,
        SocketAddr::V6(_) => socket.set_unicast_hops_v6(HOPS)?,
    }
    Ok(socket)
}

/// Why connecting failed, and what to do.
pub(super) fn connect_error(error: &io::Error, local: IpAddr, peer: SocketAddr) -> String {
    use io::ErrorKind as Kind;
    match error.kind() {
        Kind::ConnectionRefused => {
            format!("connection refused by {peer}: is its BGP daemon running?")
        }
        Kind::HostUnreachable | Kind::NetworkUnreachable => format!(
            "no way from {local} to {peer} ({error}): is the machine up, and is there a route to it?"
        ),
        Kind::AddrNotAvailable => format!(
            "cannot connect from {local}: no interface of this host has it; add it, for example \
             with: ip address add {local} dev lo"
        ),
        Kind::TimedOut => {
            format!("no answer from {peer}: is the machine up, and does nothing filter TCP?")
        }
        _ if is_protection_error(error) => error.to_string(),
        _ => format!("connecting from {local} to {peer}: {error}"),
    }
}

fn is_protection_error(error: &io::Error) -> bool {
    let Some(reason) = error.get_ref() else {
        return false;
    };
    reason.is::<ProtectionError>()
}

/// Why a connection ended, as the peer's doing.
pub(super) fn connection_error(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionReset => "reset by the peer".to_owned(),
        io::ErrorKind::BrokenPipe => "closed by the peer".to_owned(),
        _ => error.to_string(),
    }
}

/// Why listening failed, and what to do.
pub(super) fn listen_error(error: &io::Error, address: SocketAddr) -> String {
    let ip = address.ip();
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "cannot listen on {address}: another process does; find it with: ss -tlnp sport = {}",
            address.port()
        ),
        io::ErrorKind::AddrNotAvailable => format!(
            "cannot listen on {address}: no interface of this host has the address; add it, for \
             example with: ip address add {ip} dev lo"
        ),
        io::ErrorKind::PermissionDenied => {
            format!("cannot listen on {address}: ports below 1024 need CAP_NET_BIND_SERVICE")
        }
        _ => format!("cannot listen on {address}: {error}"),
    }
}
