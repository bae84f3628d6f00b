//! Lists whose room is used again: for what the next event's bytes lend, where the last one's were.

/// An empty list in the room of another, whose items are let go. Of a list with room for more than
/// `items_max` the room is given up: one large event does not hold memory for good.
//
// A list of borrowed items cannot outlive what it borrows from, empty or not, so its type must
// change. The standard library collects in place where the items have one layout; if it did not,
// this would allocate, which the tests that count allocations show.
pub fn recycle<A, B>(mut list: Vec<A>, items_max: usize) -> Vec<B> {
    if list.capacity() > items_max {
        return Vec::new();
    }
    list.clear();
    list.into_iter().map(|_| unreachable!("the list is empty")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_room_stays_and_what_was_in_it_goes() {
        let text = String::from("lent");
        let mut list: Vec<&str> = Vec::with_capacity(7);
        list.push(&text);
        let place = list.as_ptr().addr();
        let list: Vec<&'static str> = recycle(list, 7);
        assert_eq!((list.len(), list.capacity(), list.as_ptr().addr()), (0, 7, place));
        let list: Vec<&str> = recycle(list, 6);
        assert_eq!(list.capacity(), 0);
    }
}
