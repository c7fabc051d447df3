//! Connections between two requests, which wait in an epoll set and occupy no thread.
//!
//! Each is reported once and to one thread (`EPOLLONESHOT`), which serves what came and leaves the
//! connection here again.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use rustix::event::epoll::{self, Event, EventData, EventFlags};

use super::blocking::{Parked, accept, park};
use super::handler::Handler;
use super::slab::{Slab, Token};

const LISTENER: u64 = u64::MAX;
const ONCE: EventFlags = EventFlags::IN.union(EventFlags::RDHUP).union(EventFlags::ONESHOT);

pub(super) struct Parking {
    epoll: OwnedFd,
    listener: TcpListener,
    handler: Arc<Handler>,
    /// Empty while a thread serves the connection.
    places: Mutex<Places>,
}

type Places = Slab<Option<Parked>>;

impl Parking {
    pub(super) fn new(listener: TcpListener, handler: Arc<Handler>) -> anyhow::Result<Parking> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).context("cannot make an epoll")?;
        listener.set_nonblocking(true)?;
        epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), ONCE)?;
        Ok(Parking { epoll, listener, handler, places: Mutex::default() })
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the next connection on which something came; `None` where there was none, so that
    /// the caller asks again.
    pub(super) fn next(&self) -> Option<(Token, Parked)> {
        let mut events: [Event; 1] =
            [Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }];
        match epoll::wait(&self.epoll, &mut events[..], None) {
            Ok(1) => {}
            Ok(_) | Err(_) => return None,
        }
        match events[0].data.u64() {
            LISTENER => {
                self.welcome();
                None
            }
            place => {
                let place = Token::from_u64(place);
                Some((place, self.places().get_mut(place)?.take()?))
            }
        }
    }

    fn welcome(&self) {
        while let Some(socket) = accept(&self.listener, &self.handler) {
            let connection = park(socket, self.handler.clone());
            let mut places = self.places();
            let place = places.insert(None);
            // Another thread may take it at once, and waits for the lock until it is in its place.
            let data = EventData::new_u64(place.to_u64());
            let watched = epoll::add(&self.epoll, connection.socket(), data, ONCE).is_ok();
            put(&mut places, place, watched.then_some(connection));
        }
        let _ = epoll::modify(&self.epoll, &self.listener, EventData::new_u64(LISTENER), ONCE);
    }

    /// Takes a connection back, or forgets one that has ended.
    pub(super) fn leave(&self, place: Token, connection: Option<Parked>) {
        let mut places = self.places();
        let watched = connection.filter(|connection| {
            let data = EventData::new_u64(place.to_u64());
            epoll::modify(&self.epoll, connection.socket(), data, ONCE).is_ok()
        });
        put(&mut places, place, watched);
    }
}

fn put(places: &mut Places, place: Token, connection: Option<Parked>) {
    match (connection, places.get_mut(place)) {
        (Some(connection), Some(empty)) => *empty = Some(connection),
        _ => drop(places.remove(place)),
    }
}
