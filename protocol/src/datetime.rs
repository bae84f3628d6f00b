//! RFC 3339 datetimes as the protocol allows them.

use crate::ids::Micros;

/// A text that is not a datetime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a datetime")]
pub struct DatetimeError;

/// Parses a datetime (at most 64 characters) to microseconds since 1970 (earlier ones: zero).
/// Digits of the second's fraction beyond the sixth are dropped.
pub fn parse(text: &str) -> Result<Micros, DatetimeError> {
    read(text.as_bytes()).ok_or(DatetimeError)
}

/// Writes a time as the reference PDS does: `2026-11-21T02:37:17.492Z`.
pub fn format(micros: Micros) -> String {
    let seconds = micros.0 / MICROS_PER_SECOND;
    let millis = micros.0 % MICROS_PER_SECOND / 1000;
    let (days, second) = (seconds / SECONDS_PER_DAY, seconds % SECONDS_PER_DAY);
    let (year, month, day) = civil_date(days + DAYS_TO_1970);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}.{millis:03}Z", second % 60)
}

// "must meet the intersection of RFC 3339, ISO 8601 and WHATWG HTML": upper-case T and Z, whole
// seconds, a timezone, which is not "-00:00"; a date that does not "normalize to a negative
// time", that is, one before the year 0 (atproto.com/specs/lexicon#datetime).
fn read(text: &[u8]) -> Option<Micros> {
    if text.len() > CHARS_MAX {
        return None;
    }
    let (date_time, rest) = text.split_at_checked(19)?;
    for (at, separator) in [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')] {
        if date_time[at] != separator {
            return None;
        }
    }
    let year = digits(&date_time[..4])?;
    let month = within(digits(&date_time[5..7])?, 1, 12)?;
    let day = within(digits(&date_time[8..10])?, 1, days_in_month(year, month))?;
    let hour = within(digits(&date_time[11..13])?, 0, 23)?;
    let minute = within(digits(&date_time[14..16])?, 0, 59)?;
    let second = within(digits(&date_time[17..])?, 0, 60)?;
    let (fraction, zone) = read_fraction(rest)?;
    let days = days_since_year_0(year, month, day);
    let local = days * SECONDS_PER_DAY + hour * 3600 + minute * 60 + second;
    let utc = match read_zone(zone)? {
        Zone::Ahead(seconds) => local.checked_sub(seconds)?,
        Zone::Behind(seconds) => local + seconds,
    };
    if second == 60 && !follows_leap_second(utc) {
        return None;
    }
    let since_1970 = utc.saturating_sub(DAYS_TO_1970 * SECONDS_PER_DAY);
    let fraction = if utc < DAYS_TO_1970 * SECONDS_PER_DAY { 0 } else { fraction };
    Some(Micros(since_1970 * MICROS_PER_SECOND + fraction))
}

/// The microseconds of `.123…`, if it is there, and what follows.
fn read_fraction(rest: &[u8]) -> Option<(u64, &[u8])> {
    let Some((b'.', rest)) = rest.split_first() else {
        return Some((0, rest));
    };
    let len = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (fraction, zone) = rest.split_at(len);
    let micros = (0..6).fold(0, |micros, at| {
        micros * 10 + fraction.get(at).map_or(0, |digit| u64::from(digit - b'0'))
    });
    (len > 0).then_some((micros, zone))
}

/// Seconds by which a local clock differs from UTC.
enum Zone {
    Ahead(u64),
    Behind(u64),
}

fn read_zone(zone: &[u8]) -> Option<Zone> {
    match zone {
        b"Z" => Some(Zone::Ahead(0)),
        [sign, hour_tens, hour_ones, b':', minute @ ..] if minute.len() == 2 => {
            let hour = within(digits(&[*hour_tens, *hour_ones])?, 0, 23)?;
            let seconds = hour * 3600 + within(digits(minute)?, 0, 59)? * 60;
            match sign {
                b'+' => Some(Zone::Ahead(seconds)),
                b'-' if seconds > 0 => Some(Zone::Behind(seconds)),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Whether a leap second may stand before this second: leap seconds end a month in UTC.
fn follows_leap_second(utc: u64) -> bool {
    utc.is_multiple_of(SECONDS_PER_DAY) && civil_date(utc / SECONDS_PER_DAY).2 == 1
}

fn digits(text: &[u8]) -> Option<u64> {
    text.iter().try_fold(0, |number, byte| {
        byte.is_ascii_digit().then(|| number * 10 + u64::from(byte - b'0'))
    })
}

fn within(number: u64, min: u64, max: u64) -> Option<u64> {
    (min..=max).contains(&number).then_some(number)
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_in_month(year: u64, month: u64) -> u64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 0000-01-01 to the first of January of a year.
fn days_before_year(year: u64) -> u64 {
    // The year 0 is a leap year, and counts in `year + 3`.
    let leap_years = match year.checked_sub(1) {
        Some(before) => before / 4 - before / 100 + before / 400 + 1,
        None => 0,
    };
    year * 365 + leap_years
}

fn days_since_year_0(year: u64, month: u64, day: u64) -> u64 {
    let months: u64 = (1..month).map(|month| days_in_month(year, month)).sum();
    days_before_year(year) + months + day - 1
}

/// Year, month and day, from days since 0000-01-01.
fn civil_date(days: u64) -> (u64, u64, u64) {
    // 400 years have 146,097 days, so the guess is the year or at most one off.
    let guess = days * 400 / DAYS_PER_400_YEARS;
    let year = (guess.saturating_sub(1)..=guess + 1)
        .rfind(|year| days_before_year(*year) <= days)
        .expect("the guess is at most one year late");
    let mut day = days - days_before_year(year);
    let mut month = 1;
    while day >= days_in_month(year, month) {
        day -= days_in_month(year, month);
        month += 1;
    }
    (year, month, day + 1)
}

/// "no longer than 64 characters" (atproto.com/specs/lexicon#datetime).
const CHARS_MAX: usize = 64;
const MICROS_PER_SECOND: u64 = 1_000_000;
const SECONDS_PER_DAY: u64 = 86_400;
const DAYS_PER_400_YEARS: u64 = 146_097;
/// From 0000-01-01 to 1970-01-01.
const DAYS_TO_1970: u64 = 719_528;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expected: Option<u64>) {
        assert_eq!(parse(text).ok().map(|micros| micros.0), expected, "{text}");
    }

    #[test]
    fn a_datetime_is_microseconds_since_1970() {
        check("1970-01-01T00:00:00Z", Some(0));
        check("1970-01-01T00:00:00.000001Z", Some(1));
        check("2000-02-29T00:00:00Z", Some(951_782_400_000_000));
        check("2001-09-09T01:46:40.5Z", Some(1_000_000_000_500_000));
        check("2001-09-09T03:46:40.123456789+02:00", Some(1_000_000_000_123_456));
        check("2001-09-08T18:16:40-07:30", Some(1_000_000_000_000_000));
        check("1969-12-31T23:59:59.999Z", Some(0));
        check("0000-01-01T00:00:00Z", Some(0));
    }

    #[test]
    fn a_day_exists_in_its_month() {
        check("2023-02-29T00:00:00Z", None);
        check("1900-02-29T00:00:00Z", None);
        check("2023-04-31T00:00:00Z", None);
        check("2023-12-31T24:00:00Z", None);
        check("2023-12-31T00:60:00Z", None);
    }

    #[test]
    fn a_leap_second_ends_a_month_in_utc() {
        check("2016-12-31T23:59:60Z", Some(1_483_228_800_000_000));
        check("2017-01-01T01:59:60+02:00", Some(1_483_228_800_000_000));
        check("2016-12-31T23:58:60Z", None);
        check("2016-12-30T23:59:60Z", None);
        check("2016-12-31T23:59:61Z", None);
    }

    #[test]
    fn the_text_ends_where_the_grammar_does() {
        check("2023-01-01T00:00:00+24:00", None);
        check("2023-01-01T00:00:00+00:60", None);
        check("2023-01-01T00:00:00-00:00", None);
        check("2023-01-01T00:00:00ZZ", None);
        check("2023-01-01T00:00:00.Z", None);
        check("2023-01-01T00:00:00+0\u{e9}:0", None);
        check(&format!("2023-01-01T00:00:00.{}Z", "1".repeat(43)), Some(1_672_531_200_111_111));
        check(&format!("2023-01-01T00:00:00.{}Z", "1".repeat(44)), None);
        check("", None);
    }

    #[test]
    fn a_time_is_written_as_the_reference_pds_does() {
        let check = |micros, expected: &str| assert_eq!(format(Micros(micros)), expected);
        check(0, "1970-01-01T00:00:00.000Z");
        check(951_782_399_999_999, "2000-02-28T23:59:59.999Z");
        check(951_782_400_000_000, "2000-02-29T00:00:00.000Z");
        check(4_107_542_400_000_000, "2100-03-01T00:00:00.000Z");
        check(u64::MAX, "586524-01-19T08:01:49.551Z");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(millis in 0u64..253_402_300_800_000) {
            let micros = Micros(millis * 1000);
            prop_assert_eq!(parse(&format(micros)), Ok(micros));
        }
    }
}
