//! The corpus over real sockets: the lanes of every engine read it alike, however they wait for it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use duel::plan::Codec;

use crate::common::{ALL, Sweep, assert_books};
use crate::corpus::{Case, corpus};

/// Answers the request for `/N` with the case of that number, in two pieces, and closes.
fn serve(cases: Arc<Vec<Case>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let cases = cases.clone();
            // A client that has seen enough may leave before the end.
            std::thread::spawn(move || drop(play(stream, &cases)));
        }
    });
    address
}

fn play(mut stream: TcpStream, cases: &[Case]) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut head, mut piece) = (Vec::new(), [0; 1024]);
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut piece)? {
            0 => return Ok(()),
            count => head.extend_from_slice(&piece[..count]),
        }
    }
    let head = String::from_utf8_lossy(&head);
    let number = head.split(' ').nth(1).and_then(|path| path[1..].parse::<usize>().ok());
    let bytes = &cases[number.expect("a number")].bytes;
    let (first, rest) = bytes.split_at(bytes.len() / 2);
    stream.write_all(first)?;
    stream.write_all(rest)?;
    stream.shutdown(std::net::Shutdown::Write)?;
    // Until the client has gone: closing with something unread would be a reset.
    while stream.read(&mut piece)? > 0 {}
    Ok(())
}

#[test]
fn every_engine_reads_the_corpus_alike() {
    let cases = Arc::new(corpus());
    let address = serve(cases.clone());
    let request = |(number, case): (usize, &Case)| {
        format!("[[plan.request]]\nmethod = '{}'\npath = '/{number}'\n", case.method)
    };
    let mix: String = cases.iter().enumerate().map(request).collect();
    let sweep = Sweep::new(&format!(
        "[target]\nurl = 'http://{address}'\n[plan]\nrequests = {}\nkeep_alive = false\n\
         timeout = '30s'\n{mix}[sweep]\nlanes = [1]{ALL}",
        2 * cases.len()
    ));
    let done = sweep.run();
    assert_eq!(done.records.len(), ALL.rows(), "{}", done.stderr);
    for codec in Codec::ALL {
        let rows: Vec<_> = done.records.iter().filter(|r| r.cell.codec == codec).collect();
        // hyper calls a head that is both malformed and cut one or the other, by how it came.
        let exact = codec == Codec::Lean;
        let errors = |at: usize| exact.then_some(rows[at].errors);
        let read = |at: usize| (rows[at].ledger, errors(at), &rows[at].statuses);
        for at in 0..rows.len() {
            let (id, first) = (&rows[at].cell.id, &rows[0].cell.id);
            assert_books(rows[at]);
            assert_eq!(rows[at].ledger.timed_out, 0, "{id}: {:?}", rows[at].error);
            assert_eq!(read(at), read(0), "{id} and {first}: {:?}", rows[at].error);
        }
    }
}
