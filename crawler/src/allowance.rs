//! How much a host may send and how many accounts it may have: a pure rule of its age and conduct.
//! The table of it is in docs/hosts.md, "Quotas".

use std::time::Duration;

use protocol::host_state::Allowance;
use protocol::ids::Micros;
use protocol::reject::Reject;

/// Between what a host may that nobody knows, and what any host may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// What a host has that has just called.
    pub base: Allowance,
    /// What a host has that has grown all the way, and one that is trusted.
    pub ceiling: Allowance,
}

/// How far a host has grown, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// How often the base is doubled. One that is greater than what leads to the ceiling counts as
    /// that: so it means "fully grown" whatever the bounds are.
    pub level: u8,
    /// When it came to this level; zero: it was never judged.
    pub since: Micros,
    /// How often it was found abusive.
    pub abuse: u32,
}

/// What a host did since it was last looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conduct {
    /// When its last event came; zero: none ever did.
    pub last_event: Micros,
    /// Drops of hostile kinds ([`is_hostile`]) in the hour that began with the first of them, of
    /// each account at most [`HOSTILE_PER_ACCOUNT_MAX`].
    pub hostile: u64,
    /// Events received in this hour, the dropped ones included.
    pub events: u64,
}

impl Bounds {
    /// No limits at all: development networks.
    pub const UNLIMITED: Self = Self { base: UNLIMITED, ceiling: UNLIMITED };

    /// What a host of this level may: the base, doubled so many times, up to the ceiling. Each
    /// figure grows by itself.
    pub fn at(&self, level: u8) -> Allowance {
        let Self { base, ceiling } = self;
        if level >= GROWN {
            return *ceiling;
        }
        let grown = |base: u64, ceiling: u64| {
            let doubled = 1_u64.checked_shl(level.into()).map(|times| base.saturating_mul(times));
            doubled.unwrap_or(u64::MAX).min(ceiling)
        };
        Allowance {
            per_second: grown(base.per_second, ceiling.per_second),
            per_hour: grown(base.per_hour, ceiling.per_hour),
            per_day: grown(base.per_day, ceiling.per_day),
            accounts: grown(base.accounts, ceiling.accounts),
        }
    }

    /// The lowest level at which a host may all that it ever may.
    pub fn top(&self) -> u8 {
        (0..GROWN).find(|level| self.at(*level) == self.ceiling).unwrap_or(GROWN)
    }

    /// The standing of a host after this conduct. At most one step at a time, either way.
    pub fn next(&self, standing: Standing, conduct: &Conduct, now: Micros) -> Standing {
        let top = self.top();
        if is_abuse(conduct) {
            return Standing {
                level: standing.level.min(top).saturating_sub(FALL),
                since: now,
                abuse: standing.abuse.saturating_add(1),
            };
        }
        if standing.since == Micros(0) {
            return Standing { level: GROWN, since: now, ..standing };
        }
        let is_due = standing.since.plus(CLEAN_FOR) <= now;
        let was_heard = conduct.last_event >= standing.since;
        if standing.level < top && is_due && was_heard {
            return Standing { level: standing.level + 1, since: now, ..standing };
        }
        standing
    }
}

impl Standing {
    /// Of a host that has announced itself.
    pub fn new(now: Micros) -> Self {
        Self { level: 0, since: now, abuse: 0 }
    }

    /// Of a host that an operator has added: somebody vouches for it.
    pub fn grown(now: Micros) -> Self {
        Self { level: GROWN, since: now, abuse: 0 }
    }
}

/// Whether a drop is of a kind that honest hosts do not cause by old or faulty software, but for
/// single accounts: forgeries, claims to accounts of others, invented DIDs, and bytes that are no
/// events. Everything else has an innocent reading (old software, a slow directory, a migration, a
/// wrong clock) and never lowers a host.
pub fn is_hostile(reject: Reject) -> bool {
    matches!(
        reject,
        Reject::FrameText
            | Reject::FrameMalformed
            | Reject::SeqMissing
            | Reject::SeqStale
            | Reject::DidSyntax
            | Reject::DidMethod
            | Reject::WrongHost
            | Reject::IdentityUnchanged
            | Reject::BlockCidMismatch
            | Reject::CommitCidMismatch
            | Reject::CommitDidMismatch
            | Reject::SignatureInvalid
    )
}

/// Whether an hour's conduct is abuse: so many hostile drops, and so great a part of what came.
fn is_abuse(conduct: &Conduct) -> bool {
    let part = conduct.hostile.saturating_mul(HOSTILE_ONE_IN) >= conduct.events;
    conduct.hostile >= HOSTILE_PER_HOUR_MAX && part
}

/// The hour of [`Conduct::hostile`].
pub const CONDUCT_WINDOW: Duration = Duration::from_hours(1);

/// Hostile drops within an hour that are borne from any host. An account that has moved away, or
/// whose key its host has lost, causes some dozens; each costs a check and perhaps a look-up.
pub const HOSTILE_PER_HOUR_MAX: u64 = 1_000;

/// So many of an hour's hostile drops count of one account: it is its owner who says in its DID
/// document which key and which host are right, and an honest host goes on sending.
pub const HOSTILE_PER_ACCOUNT_MAX: u32 = 10;

/// One in so many events of the hour must be hostile: a host of half a million accounts has
/// thousands of them that are out of order, and is honest.
pub const HOSTILE_ONE_IN: u64 = 10;

/// A level is a doubling: from 1,000 accounts to a million takes a month. Long enough for people
/// to notice a host that grows by spam, short enough for one that grows by people.
pub const CLEAN_FOR: Duration = Duration::from_hours(3 * 24);

/// Levels lost by an hour of abuse: a quarter of the limits is left, and six clean days bring them
/// back.
pub const FALL: u8 = 2;

/// The level of a host that has nothing more to prove: it has the ceiling, whatever the bounds are.
/// Growing by itself it gets there no later, if the ceiling is 2^40 bases away.
pub const GROWN: u8 = 40;

const UNLIMITED: Allowance =
    Allowance { per_second: u64::MAX, per_hour: u64::MAX, per_day: u64::MAX, accounts: u64::MAX };

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Micros = Micros(1_700_000_000_000_000);

    fn allowance(per_second: u64, per_hour: u64, per_day: u64, accounts: u64) -> Allowance {
        Allowance { per_second, per_hour, per_day, accounts }
    }

    fn bounds() -> Bounds {
        Bounds {
            base: allowance(500, 200_000, 1_000_000, 1_000),
            ceiling: allowance(5_000, 5_000_000, 50_000_000, 5_000_000),
        }
    }

    fn standing(level: u8, since: Micros) -> Standing {
        Standing { level, since, abuse: 0 }
    }

    fn heard(last_event: Micros) -> Conduct {
        Conduct { last_event, ..Conduct::default() }
    }

    fn hostile(hostile: u64, events: u64) -> Conduct {
        Conduct { last_event: NOW, hostile, events }
    }

    #[test]
    fn a_level_doubles_each_figure_up_to_the_ceiling() {
        let check = |level, expected| assert_eq!(bounds().at(level), expected, "level {level}");
        check(0, bounds().base);
        check(1, allowance(1_000, 400_000, 2_000_000, 2_000));
        check(4, allowance(5_000, 3_200_000, 16_000_000, 16_000));
        check(12, allowance(5_000, 5_000_000, 50_000_000, 4_096_000));
        check(13, bounds().ceiling);
        check(GROWN, bounds().ceiling);
        check(u8::MAX, bounds().ceiling);
        assert_eq!(bounds().top(), 13);
        assert_eq!((Bounds::UNLIMITED.at(0), Bounds::UNLIMITED.top()), (UNLIMITED, 0));
    }

    #[test]
    fn three_clean_days_on_which_it_was_heard_raise_a_host_by_one_level() {
        let check = |since: Micros, conduct: Conduct, now: Micros, expected: u8| {
            assert_eq!(bounds().next(standing(3, since), &conduct, now).level, expected);
        };
        let due = NOW.plus(CLEAN_FOR);
        check(NOW, heard(NOW), Micros(due.0 - 1), 3);
        check(NOW, heard(NOW), due, 4);
        // Not by having been there only.
        check(NOW, heard(Micros(NOW.0 - 1)), due, 3);
        check(NOW, heard(Micros(0)), due, 3);
        // However long nobody looked, it is one step, and the next one begins there.
        let long = due.plus(CLEAN_FOR * 10);
        let next = bounds().next(standing(3, NOW), &heard(long), long);
        assert_eq!(next, standing(4, long));
        assert_eq!(bounds().next(next, &heard(long), long), next);
    }

    #[test]
    fn a_thousand_hostile_drops_that_are_a_tenth_of_an_hour_cost_two_levels() {
        let check = |level: u8, conduct: Conduct, expected: Standing| {
            assert_eq!(bounds().next(standing(level, NOW), &conduct, NOW), expected);
        };
        let fallen = |level| Standing { level, since: NOW, abuse: 1 };
        check(5, hostile(1_000, 10_000), fallen(3));
        check(5, hostile(1_000, 1_000), fallen(3));
        check(5, hostile(999, 999), standing(5, NOW));
        check(5, hostile(1_000, 10_001), standing(5, NOW));
        check(5, hostile(u64::MAX, u64::MAX), fallen(3));
        check(1, hostile(1_000, 0), fallen(0));
        check(0, hostile(1_000, 0), fallen(0));
        // Who has grown all the way falls from there, not from beyond.
        check(GROWN, hostile(1_000, 0), fallen(11));
    }

    #[test]
    fn a_host_of_before_quotas_is_fully_grown() {
        let next = bounds().next(standing(0, Micros(0)), &heard(Micros(0)), NOW);
        assert_eq!(next, Standing::grown(NOW));
        assert_eq!(bounds().at(next.level), bounds().ceiling);
    }

    #[test]
    fn what_old_software_or_a_slow_directory_causes_is_not_hostile() {
        let check = |reject: Reject, expected| assert_eq!(is_hostile(reject), expected);
        check(Reject::SignatureInvalid, true);
        check(Reject::WrongHost, true);
        check(Reject::FrameMalformed, true);
        check(Reject::PrevDataMissing, false);
        check(Reject::InversionMismatch, false);
        check(Reject::SignatureHighS, false);
        check(Reject::MstMalformed, false);
        check(Reject::IdentityUnresolved, false);
        check(Reject::RevInFuture, false);
        check(Reject::CommitRevMismatch, false);
        check(Reject::AccountThrottled, false);
        check(Reject::VerifierPanic, false);
        // What is owed to reconciliation is what an honest host might have sent; bytes that are no
        // event are owed as well, since nobody can tell whose they were.
        for reject in Reject::ALL.iter().filter(|reject| reject.leaves_gap()) {
            check(*reject, *reject == Reject::FrameMalformed);
        }
    }

    fn figure() -> impl Strategy<Value = (u64, u64)> {
        (0..64_u32, 0..64_u32).prop_map(|(base, more)| {
            let base = 1_u64 << base;
            (base, base.saturating_mul(1 << more))
        })
    }

    fn any_bounds() -> impl Strategy<Value = Bounds> {
        [figure(), figure(), figure(), figure()].prop_map(|figures| {
            let of = |pick: fn((u64, u64)) -> u64| {
                let [second, hour, day, accounts] = figures.map(pick);
                allowance(second, hour, day, accounts)
            };
            Bounds { base: of(|pair| pair.0), ceiling: of(|pair| pair.1) }
        })
    }

    fn is_within(small: Allowance, great: Allowance) -> bool {
        small.per_second <= great.per_second
            && small.per_hour <= great.per_hour
            && small.per_day <= great.per_day
            && small.accounts <= great.accounts
    }

    proptest! {
        #[test]
        fn property_limits_grow_with_the_level_from_base_to_ceiling(
            bounds in any_bounds(),
            level in 0..=u8::MAX,
        ) {
            let at = bounds.at(level);
            prop_assert!(is_within(bounds.base, at) && is_within(at, bounds.ceiling));
            prop_assert!(is_within(at, bounds.at(level.saturating_add(1))));
            prop_assert_eq!(bounds.at(bounds.top()), bounds.ceiling);
        }

        #[test]
        fn property_a_step_is_one_up_or_two_down_and_notes_when(
            bounds in any_bounds(),
            level in 0..=GROWN,
            (since, last_event) in (1..NOW.0, 0..=NOW.0),
            (hostile, events) in (0..3_000_u64, 0..30_000_u64),
        ) {
            let before = standing(level, Micros(since));
            let conduct = Conduct { last_event: Micros(last_event), hostile, events };
            let after = bounds.next(before, &conduct, NOW);
            prop_assert!(after.level <= before.level + 1);
            prop_assert!(after.level + FALL >= before.level.min(bounds.top()));
            prop_assert_eq!(after.since == NOW, after != before);
            prop_assert!(after.level <= before.level || after.abuse == before.abuse);
        }
    }

    #[test]
    fn an_honest_host_reaches_the_ceiling_and_stays() {
        let (mut now, mut standing) = (NOW, Standing::new(NOW));
        for level in 0..bounds().top() {
            assert_eq!(standing.level, level);
            now = now.plus(CLEAN_FOR);
            standing = bounds().next(standing, &heard(now), now);
        }
        let later = now.plus(CLEAN_FOR);
        assert_eq!(bounds().next(standing, &heard(later), later), standing);
        assert_eq!(bounds().at(standing.level), bounds().ceiling);
    }
}
