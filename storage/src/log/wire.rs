//! From a batch to what one reader gets of it: the bytes after its cursor, less what is hidden.

use protocol::ids::Seq;

use crate::store::batch::View;

use super::hidden::Hidden;

/// Appends the wire bytes of a batch's visible events after `after`; answers how many they are.
pub(crate) fn append(view: View<'_>, after: Seq, hidden: &Hidden, out: &mut Vec<u8>) -> usize {
    let position = view.position_after(after);
    let events = view.events();
    let Some(hidden) = hidden.after(view.first()) else {
        out.extend_from_slice(view.wire(position..events));
        return events - position;
    };
    let mut frames = 0;
    let mut run = position;
    for current in position..events {
        if hidden.hides(view.event(current)) {
            out.extend_from_slice(view.wire(run..current));
            frames += current - run;
            run = current + 1;
        }
    }
    out.extend_from_slice(view.wire(run..events));
    frames + events - run
}
