//! Places for what connections are kept in, each named for as long as it is held.

/// Names what is held for as long as it is: a place is used again, a token is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Token {
    slot: u32,
    generation: u32,
}

impl Token {
    pub(super) fn to_u64(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.slot)
    }

    pub(super) fn from_u64(data: u64) -> Self {
        Self { slot: data as u32, generation: (data >> 32) as u32 }
    }
}

/// A place and how much it has held before.
pub(super) struct SlabPlace<T> {
    generation: u32,
    held: Option<T>,
}

pub(super) struct Slab<T> {
    places: Vec<SlabPlace<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Slab { places: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    pub(super) fn insert(&mut self, held: T) -> Token {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.places.push(SlabPlace { generation: 0, held: None });
            // Descriptors run out long before 2^32 places.
            self.places.len() as u32 - 1
        });
        let place = &mut self.places[slot as usize];
        place.held = Some(held);
        Token { slot, generation: place.generation }
    }

    fn place(&mut self, token: Token) -> Option<&mut SlabPlace<T>> {
        let place = self.places.get_mut(token.slot as usize)?;
        Some(place).filter(|place| place.generation == token.generation)
    }

    /// What has this name, unless it is gone.
    pub(super) fn get_mut(&mut self, token: Token) -> Option<&mut T> {
        self.place(token)?.held.as_mut()
    }

    /// Forgets what has this name and returns it, unless it is gone already.
    pub(super) fn remove(&mut self, token: Token) -> Option<T> {
        let place = self.place(token)?;
        let held = place.held.take()?;
        place.generation = place.generation.wrapping_add(1);
        self.free.push(token.slot);
        Some(held)
    }

    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_never_reaches_the_next_connection_of_its_slot() {
        let mut slab = Slab::default();
        let first = slab.insert("held");
        let second = slab.insert("held");
        assert!(slab.remove(first).is_some());
        assert!(slab.get_mut(first).is_none(), "a closed connection is still found");
        let third = slab.insert("held");
        assert_eq!(third.slot, first.slot, "the place is not used again");
        assert!(slab.get_mut(first).is_none(), "an old token found a new connection");
        assert!(slab.remove(first).is_none(), "an old token removed a new connection");
        assert!(slab.get_mut(second).is_some() && slab.get_mut(third).is_some());
        assert_eq!(slab.len(), 2);
        assert_eq!(Token::from_u64(third.to_u64()), third);
    }
}
