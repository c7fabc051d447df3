use std::net::{TcpListener, TcpStream};

use super::*;

/// A ring, and both ends of a connection; `None` where rings are forbidden, which has its own
/// test.
fn pair() -> Option<(Ring, TcpStream, TcpStream)> {
    let ring = Ring::new(4).inspect_err(|why| println!("skipped: {why}")).ok()?;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    Some((ring, near, listener.accept().unwrap().0))
}

fn wait(ring: &mut Ring) -> Completion {
    loop {
        if let Some(done) = ring.next() {
            return done;
        }
        ring.enter(1_000_000_000, 1, 0).unwrap();
    }
}

#[test]
fn what_was_received_is_gone_once_its_buffer_is_given_back() {
    use std::io::Write;
    let Some((mut ring, near, mut far)) = pair() else { return };
    ring.receive(&near, 7, true);
    let mut seen = Vec::new();
    // More rounds than there are buffers.
    let count = usize::from(ring.provided.count);
    for round in 0..3 * count {
        let sent = [round as u8; 100];
        far.write_all(&sent).unwrap();
        let done = wait(&mut ring);
        assert_eq!((done.op, done.key, done.result, done.more), (Op::Receive, 7, 100, true));
        let mut buffer = done.buffer.expect("what came");
        let bytes = ring.bytes(&mut buffer);
        assert_eq!(bytes, sent, "round {round}");
        let (at, id) = (bytes.as_ptr() as usize, buffer.id);
        seen.push((at, id));
        ring.recycle(buffer);
        if cfg!(debug_assertions) {
            // As a reader would that kept the place and gave the buffer up.
            let kept = ring.bytes(&mut Buffer { id, len: 100 }).to_vec();
            assert_eq!(kept, [POISON; 100], "round {round}: still readable");
        }
    }
    let all: std::collections::HashSet<_> = seen.iter().collect();
    assert!(all.len() <= count, "buffers come round again");
}

#[test]
fn a_send_tells_only_what_was_not_sent() {
    use std::io::Read;
    let Some((mut ring, near, mut far)) = pair() else { return };
    let mut queued = Vec::new();
    for n in 0..200_u8 {
        let bytes = [n; 999];
        ring.send(&near, n.into(), &bytes).unwrap();
        queued.extend(bytes);
    }
    ring.submit().unwrap();
    let mut got = vec![0; queued.len()];
    far.read_exact(&mut got).unwrap();
    assert!(got == queued, "copies do not overlap");
    ring.enter(0, 1, 0).unwrap();
    assert!(ring.next().is_none(), "whole sends say nothing");
    // Nobody reads any more: some send finds no room, or not enough.
    let cut = (0..).find_map(|key| {
        ring.send(&near, key, &[1; LONGEST_SEND]).unwrap();
        ring.enter(0, 1, 0).unwrap();
        ring.next()
    });
    let cut = cut.expect("an endless loop");
    assert_eq!(cut.op, Op::Send);
    let room = cut.result == -libc::EAGAIN || (1..LONGEST_SEND as i32).contains(&cut.result);
    assert!(room, "{cut:?}");
}

#[test]
fn each_refusal_names_its_way_out() {
    let told = |errno, disabled| explain(&io::Error::from_raw_os_error(errno), disabled);
    for (errno, disabled, words) in [
        (libc::EPERM, "0", "seccomp"),
        (libc::EPERM, "2", "sysctl -w kernel.io_uring_disabled=0"),
        (libc::ENOSYS, "0", "Linux 6.1"),
        (libc::EINVAL, "0", "Linux 6.1"),
        (libc::ENOMEM, "0", "RLIMIT_MEMLOCK"),
        (libc::EMFILE, "0", "open files"),
    ] {
        let why = told(errno, disabled);
        assert!(why.contains(words) && why.contains("io_uring"), "{why}");
    }
}

/// As many connections as fit, and not one more, by steps of the queues' sizes.
#[test]
fn most_connections_are_those_whose_ring_fits() {
    assert_eq!(most_connections(locked_bytes(1) - 1), 0);
    for step in [2048, 4096, 8192, 16_384] {
        let bytes = locked_bytes(step);
        assert_eq!((most_connections(bytes), most_connections(bytes - 1) < step), (step, true));
        assert!(locked_bytes(step + 1) > bytes, "{step} is the last of its size");
    }
    assert_eq!(most_connections(u64::MAX), u32::MAX);
    assert_eq!(locked_bytes(u32::MAX), locked_bytes(16_385));
}
