//! The connections that are open now, counted against the limits of all and of each address.

use std::net::IpAddr;
use std::sync::Arc;

use trestle_hub::Grant;

use super::counter::{Counter, Held};
use crate::address::{Proxies, Site};

/// There is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// For nobody.
    Edge,
    /// For this address.
    Address,
    /// For the subject of this token.
    Subject,
}

/// The one room of the process, over all its shards.
#[derive(Debug)]
pub(crate) struct Room {
    proxies: Proxies,
    connections_max: Option<u32>,
    address_connections_max: Option<u32>,
    all: Arc<Counter<()>>,
    addresses: Arc<Counter<Site>>,
    subjects: Arc<Counter<Box<str>>>,
}

/// The place of a TCP connection.
#[derive(Debug)]
pub(crate) struct Place {
    _of_all: Option<Held<()>>,
    /// Not of a proxy's connection, which carries one client after the other.
    of_address: Option<Held<Site>>,
}

/// A client that is served: where it is, and its place until the last copy of this is dropped.
#[derive(Debug, Clone)]
pub(crate) struct Guest {
    pub(crate) address: IpAddr,
    _place: Arc<Place>,
    _behind_proxy: Option<Arc<Held<Site>>>,
    of_subject: Option<Arc<Held<Box<str>>>>,
}

impl Room {
    pub(crate) fn new(
        proxies: Proxies,
        connections_max: Option<u32>,
        address_connections_max: Option<u32>,
    ) -> Self {
        let (all, addresses, subjects) = Default::default();
        Self { proxies, connections_max, address_connections_max, all, addresses, subjects }
    }

    pub(crate) fn proxies(&self) -> &Proxies {
        &self.proxies
    }

    /// Takes a place for a TCP connection.
    pub(crate) fn enter(&self, peer: IpAddr) -> Result<Place, Full> {
        let of_all = self.connections_max.map(|max| self.all.take((), max).ok_or(Full::Edge)).transpose()?;
        let of_address = if self.proxies.trust(peer) { None } else { self.of_address(peer)? };
        Ok(Place { _of_all: of_all, of_address })
    }

    /// The client at `address` stays, on a connection that has its place.
    pub(crate) fn stay(&self, place: &Arc<Place>, address: IpAddr) -> Result<Guest, Full> {
        let behind_proxy = match &place.of_address {
            Some(_) => None,
            None => self.of_address(address)?.map(Arc::new),
        };
        let place = Arc::clone(place);
        Ok(Guest { address, _place: place, _behind_proxy: behind_proxy, of_subject: None })
    }

    /// The client is who its token says, of whom `max_connections` may be here.
    pub(crate) fn know(&self, guest: &mut Guest, grant: &Grant) -> Result<(), Full> {
        let (Some(subject), Some(max)) = (&grant.subject, grant.max_connections) else { return Ok(()) };
        if guest.of_subject.is_none() {
            let held = self.subjects.take(subject.clone(), max).ok_or(Full::Subject)?;
            guest.of_subject = Some(Arc::new(held));
        }
        Ok(())
    }

    fn of_address(&self, address: IpAddr) -> Result<Option<Held<Site>>, Full> {
        let take = |max| self.addresses.take(address.into(), max).ok_or(Full::Address);
        self.address_connections_max.map(take).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_has_its_places_and_another_its_own() {
        let room = Room::new(Proxies::default(), Some(3), Some(2));
        let first = [room.enter(ip("2001:db8::1")).unwrap(), room.enter(ip("2001:db8::2")).unwrap()];
        assert_eq!(room.enter(ip("2001:db8::3")).unwrap_err(), Full::Address);
        let other = room.enter(ip("192.0.2.1")).unwrap();
        assert_eq!(room.enter(ip("192.0.2.2")).unwrap_err(), Full::Edge);
        drop(first);
        let again = [room.enter(ip("::ffff:192.0.2.1")).unwrap()];
        assert_eq!(room.enter(ip("192.0.2.1")).unwrap_err(), Full::Address);
        drop((other, again));
    }

    #[test]
    fn a_subject_has_as_many_places_as_its_token_says() {
        let room = Room::new(Proxies::default(), None, None);
        let place = Arc::new(room.enter(ip("192.0.2.1")).unwrap());
        let guest = || room.stay(&place, ip("192.0.2.1")).unwrap();
        let grant = |subject: &str, max_connections| Grant {
            subject: Some(subject.into()),
            max_connections,
            ..Grant::everything()
        };
        let mut of_ann = [guest(), guest()];
        for guest in &mut of_ann {
            room.know(guest, &grant("ann", Some(2))).unwrap();
            // Another token of the same connection.
            room.know(guest, &grant("ann", Some(2))).unwrap();
        }
        assert_eq!(room.know(&mut guest(), &grant("ann", Some(2))), Err(Full::Subject));
        room.know(&mut guest(), &grant("eve", Some(1))).unwrap();
        room.know(&mut guest(), &grant("ann", None)).unwrap();
        drop(of_ann);
        room.know(&mut guest(), &grant("ann", Some(2))).unwrap();
    }

    #[test]
    fn behind_a_proxy_the_clients_are_counted_and_not_its_connections() {
        let proxies = Proxies::new(&["10.0.0.0/8".parse().unwrap()]);
        let room = Room::new(proxies, None, Some(1));
        let places: Vec<_> = (0..9).map(|_| Arc::new(room.enter(ip("10.0.0.1")).unwrap())).collect();
        let guest = room.stay(&places[0], ip("192.0.2.1")).unwrap();
        assert_eq!(room.stay(&places[1], ip("192.0.2.1")).unwrap_err(), Full::Address);
        let other = room.stay(&places[2], ip("192.0.2.2")).unwrap();
        drop(guest);
        room.stay(&places[1], ip("192.0.2.1")).unwrap();
        drop(other);
        // A direct client has its place already.
        let direct = Arc::new(room.enter(ip("192.0.2.3")).unwrap());
        let guest = room.stay(&direct, ip("192.0.2.3")).unwrap();
        drop(direct);
        assert_eq!(room.enter(ip("192.0.2.3")).unwrap_err(), Full::Address, "the guest holds it");
        drop(guest);
        room.enter(ip("192.0.2.3")).unwrap();
    }
}
