//! Numbers, spans of time, sizes and truths as an operator writes them.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::report::Cause;

/// A whole number within bounds, in plain decimal digits.
pub(super) fn integer(text: &str, min: u64, max: u64) -> Result<u64, Cause> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = if digits { text.parse().ok() } else { None };
    number.filter(|number| (min..=max).contains(number)).ok_or(Cause::NotAnInteger { min, max })
}

/// The same, 32 bits wide.
pub(super) fn small_integer(text: &str, min: u32, max: u32) -> Result<u32, Cause> {
    let cause = Cause::NotAnInteger { min: min.into(), max: max.into() };
    integer(text, min.into(), max.into())?.try_into().map_err(|_| cause)
}

/// A number of things that there are at least one of.
pub(super) fn count(text: &str, max: u32) -> Result<usize, Cause> {
    let cause = Cause::NotAnInteger { min: 1, max: max.into() };
    small_integer(text, 1, max)?.try_into().map_err(|_| cause)
}

/// An address to listen on. `localhost` is 127.0.0.1.
pub(super) fn address(text: &str) -> Result<SocketAddr, Cause> {
    let local = text.strip_prefix("localhost:").and_then(|port| port.parse().ok());
    let local = local.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    local.or_else(|| text.parse().ok()).ok_or(Cause::NotAnAddress)
}

/// A number within bounds, with or without a decimal point.
pub(super) fn number(text: &str, min: u32, max: u32) -> Result<f64, Cause> {
    let number: Option<f64> = text.parse().ok();
    number.filter(|number| (f64::from(min)..=f64::from(max)).contains(number)).ok_or(Cause::NotANumber { min, max })
}

/// `true` or `false`, as people write them.
pub(super) fn boolean(text: &str) -> Result<bool, Cause> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" => Ok(true),
        "false" | "0" | "no" => Ok(false),
        _ => Err(Cause::NotABool),
    }
}

/// A span of time with its unit, within bounds.
pub(super) fn duration(text: &str, min: Duration, max: Duration) -> Result<Duration, Cause> {
    let duration = humantime::parse_duration(text).ok();
    duration.filter(|duration| (min..=max).contains(duration)).ok_or(Cause::NotADuration { min, max })
}

/// A number of bytes, within bounds.
pub(super) fn size(text: &str, min: u64, max: u64) -> Result<usize, Cause> {
    let bytes = text.parse::<bytesize::ByteSize>().ok().map(|size| size.as_u64());
    let within = bytes.filter(|bytes| (min..=max).contains(bytes));
    within.and_then(|bytes| usize::try_from(bytes).ok()).ok_or(Cause::NotASize { min, max })
}

/// The entries of a comma list. Empty ones, such as a comma at the end leaves, are skipped.
pub(super) fn entries(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|entry| !entry.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_plain_digits_within_bounds() {
        for (text, expected) in [("1", Some(1)), ("4096", Some(4096)), ("0007", Some(7))] {
            assert_eq!(integer(text, 1, 4096).ok(), expected, "{text}");
        }
        for text in ["", "0", "4097", "-1", "+1", "1.0", "1e3", "1_000", "0x10", "99999999999999999999", "８"] {
            assert_eq!(integer(text, 1, 4096), Err(Cause::NotAnInteger { min: 1, max: 4096 }), "{text}");
        }
        assert_eq!(small_integer("4294967296", 1, u32::MAX).ok(), None);
    }

    #[test]
    fn numbers_are_finite_and_within_bounds() {
        for (text, expected) in [("0", 0.0), ("0.2", 0.2), (".5", 0.5), ("10", 10.0), ("1e1", 10.0)] {
            assert_eq!(number(text, 0, 10), Ok(expected), "{text}");
        }
        for text in ["", "-0.1", "10.1", "20%", "NaN", "inf", "0,2"] {
            assert_eq!(number(text, 0, 10), Err(Cause::NotANumber { min: 0, max: 10 }), "{text}");
        }
    }

    #[test]
    fn truths_are_written_in_three_ways() {
        for text in ["true", "1", "yes", "TRUE", "Yes"] {
            assert_eq!(boolean(text), Ok(true), "{text}");
        }
        for text in ["false", "0", "no", "NO"] {
            assert_eq!(boolean(text), Ok(false), "{text}");
        }
        for text in ["", "on", "off", "2", "tru"] {
            assert_eq!(boolean(text), Err(Cause::NotABool), "{text}");
        }
    }

    #[test]
    fn durations_have_a_unit_and_bounds() {
        let (min, max) = (Duration::from_millis(250), Duration::from_secs(3600));
        for (text, seconds) in [("250ms", 0.25), ("30s", 30.0), ("5m", 300.0), ("1h", 3600.0), ("1m 30s", 90.0)] {
            assert_eq!(duration(text, min, max), Ok(Duration::from_secs_f64(seconds)), "{text}");
        }
        for text in ["", "30", "249ms", "3601s", "1M", "-1s", "1d", "s"] {
            assert_eq!(duration(text, min, max), Err(Cause::NotADuration { min, max }), "{text}");
        }
    }

    #[test]
    fn sizes_have_bounds() {
        for (text, bytes) in
            [("64KiB", 65_536), ("64 MiB", 67_108_864), ("1GiB", 1 << 30), ("1MB", 1_000_000), ("65536", 65_536)]
        {
            assert_eq!(size(text, 65_536, 1 << 30), Ok(bytes), "{text}");
        }
        for text in ["", "65535", "1025MiB", "1TiB", "-64MiB", "MiB", "64 apples"] {
            assert_eq!(size(text, 65_536, 1 << 30), Err(Cause::NotASize { min: 65_536, max: 1 << 30 }), "{text}");
        }
    }

    #[test]
    fn lists_skip_what_is_empty() {
        assert_eq!(entries(" a, b,,c ,").collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(entries(" , ").count(), 0);
    }
}
