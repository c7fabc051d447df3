//! `pool`: a fixed number of OS threads, each of which takes a connection until it closes, or a
//! request at a time.

use std::net::TcpListener;
use std::sync::Arc;

use anyhow::Context;

use super::blocking::{accept, serve};
use super::handler::Handler;
use super::parking::Parking;
use crate::plan::server::PoolOf;

pub(super) fn run(listener: TcpListener, handler: &Arc<Handler>) -> anyhow::Result<()> {
    let setting = &handler.plan.setting;
    let work: Arc<dyn Fn() + Send + Sync> = match setting.pool {
        PoolOf::Connections => {
            let handler = handler.clone();
            Arc::new(move || {
                if let Some(socket) = accept(&listener, &handler) {
                    serve(socket, handler.clone());
                }
            })
        }
        PoolOf::Requests => {
            let parking = Parking::new(listener, handler.clone())?;
            Arc::new(move || {
                if let Some((place, mut connection)) = parking.next() {
                    let goes_on = connection.serve_what_came();
                    parking.leave(place, goes_on.then_some(connection));
                }
            })
        }
    };
    let size = setting.pool_size.unwrap_or(1);
    let threads: Vec<_> = (0..size)
        .map(|number| {
            let work = work.clone();
            let stack_bytes = setting.stack_bytes as usize;
            std::thread::Builder::new()
                .stack_size(stack_bytes)
                .spawn(move || {
                    loop {
                        work();
                    }
                })
                .with_context(|| {
                    format!("a pool of {size} threads: number {number} could not be started")
                })
        })
        .collect::<anyhow::Result<_>>()?;
    for thread in threads {
        let _ = thread.join();
    }
    anyhow::bail!("the threads of the pool ended")
}
