//! `rayon`: one job of a rayon pool per request.

use std::net::TcpListener;
use std::sync::Arc;

use super::handler::Handler;
use super::parking::Parking;
use crate::engine::offload::pool;

pub(super) fn run(listener: TcpListener, handler: &Arc<Handler>) -> anyhow::Result<()> {
    let setting = &handler.plan.setting;
    let size = setting.pool_size.map_or(handler.cpus, |size| size as usize);
    let pool = pool(size, setting.stack_bytes as usize, "pool")?;
    let parking = Arc::new(Parking::new(listener, handler.clone())?);
    loop {
        let Some((place, mut connection)) = parking.next() else { continue };
        let parking = parking.clone();
        // In the order of arrival: rayon's own order would serve the latest first.
        pool.spawn_fifo(move || {
            let goes_on = connection.serve_what_came();
            parking.leave(place, goes_on.then_some(connection));
        });
    }
}
