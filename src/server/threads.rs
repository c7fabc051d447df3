//! `threads`: one OS thread per connection.

use std::net::TcpListener;
use std::sync::Arc;

use super::blocking::{accept, serve};
use super::handler::Handler;

pub(super) fn run(listener: &TcpListener, handler: &Arc<Handler>) -> anyhow::Result<()> {
    let stack_bytes = handler.plan.setting.stack_bytes as usize;
    loop {
        let Some(socket) = accept(listener, handler) else { continue };
        let own = handler.clone();
        let thread = std::thread::Builder::new().stack_size(stack_bytes);
        // The connection closes where no thread can be had for it.
        if let Err(e) = thread.spawn(move || serve(socket, own)) {
            handler.trouble(1, || format!("a connection found no thread: {e}"));
        }
    }
}
