//! Natural order of names: `class2` before `class10`.

use std::cmp::Ordering;

/// Compare two names so that runs of digits count as numbers.
///
/// Outside digits, characters compare by code point (so upper case sorts before lower case, as in `ls` with
/// the C locale). Names that differ only in leading zeros fall back to plain order, so the order is total.
pub fn natural_cmp(a: &str, b: &str) -> Ordering {
    let (mut rest_a, mut rest_b) = (a, b);
    loop {
        let (digits_a, digits_b) = (leading_digits(rest_a), leading_digits(rest_b));
        if !digits_a.is_empty() && !digits_b.is_empty() {
            let (number_a, number_b) = (
                digits_a.trim_start_matches('0'),
                digits_b.trim_start_matches('0'),
            );
            let order = number_a
                .len()
                .cmp(&number_b.len())
                .then_with(|| number_a.cmp(number_b));
            if order != Ordering::Equal {
                return order;
            }
            rest_a = rest_a.get(digits_a.len()..).unwrap_or("");
            rest_b = rest_b.get(digits_b.len()..).unwrap_or("");
            continue;
        }
        let (mut chars_a, mut chars_b) = (rest_a.chars(), rest_b.chars());
        match (chars_a.next(), chars_b.next()) {
            (None, None) => return a.cmp(b),
            (x, y) if x != y => return x.cmp(&y),
            _ => (rest_a, rest_b) = (chars_a.as_str(), chars_b.as_str()),
        }
    }
}

fn leading_digits(text: &str) -> &str {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    text.get(..end).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(names: &[&str]) -> Vec<String> {
        let mut names: Vec<String> = names.iter().map(|n| n.to_string()).collect();
        names.sort_by(|a, b| natural_cmp(a, b));
        names
    }

    #[test]
    fn numbers_count_as_numbers() {
        assert_eq!(sorted(&["10", "9", "1"]), ["1", "9", "10"]);
        assert_eq!(
            sorted(&["a10b", "a2b", "a2a", "a"]),
            ["a", "a2a", "a2b", "a10b"]
        );
        assert_eq!(
            sorted(&["img007", "img7", "img8"]),
            ["img007", "img7", "img8"]
        );
        assert_eq!(sorted(&["é2", "é10"]), ["é2", "é10"]);
    }

    proptest::proptest! {
        #[test]
        fn the_order_is_total(a in "[a0-9é]{0,6}", b in "[a0-9é]{0,6}", c in "[a0-9é]{0,6}") {
            use proptest::prelude::*;
            prop_assert_eq!(natural_cmp(&a, &b), natural_cmp(&b, &a).reverse());
            prop_assert_eq!(natural_cmp(&a, &b) == Ordering::Equal, a == b);
            if natural_cmp(&a, &b).is_le() && natural_cmp(&b, &c).is_le() {
                prop_assert!(natural_cmp(&a, &c).is_le());
            }
        }
    }
}
