//! Which known word was probably meant, for messages about unknown ones. Case, and `-` for `_`, are no
//! difference; words are compared up to their 64th character.

/// The known word nearest to `word`, the first of equals, if one is near enough to be a slip of the fingers.
pub(crate) fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let word = folded(word);
    let limit = (word.len() / 3).clamp(1, 3);
    known
        .into_iter()
        .map(|candidate| (distance(&word, &folded(candidate)), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The end of a message about an unknown word: what to write instead.
pub(crate) fn instead(word: &str, known: &[&str]) -> String {
    match nearest(word, known.iter().copied()) {
        Some(near) => format!("did you mean {near:?}?"),
        None => match known {
            [] => "there is none".to_owned(),
            [only] => format!("write {only:?}"),
            few if few.len() <= 20 => format!("write one of {}", few.join(", ")),
            many => format!("there are {}, and none is like it", many.len()),
        },
    }
}

/// Whether `word` is `known` but for slips, at most this many.
pub(crate) fn is_nearly(word: &str, known: &str, slips: usize) -> bool {
    distance(&folded(word), &folded(known)) <= slips
}

fn folded(word: &str) -> Vec<char> {
    word.chars().take(64).map(|c| if c == '-' { '_' } else { c.to_ascii_lowercase() }).collect()
}

/// Levenshtein's distance, where exchanging two neighbours counts as one.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let at = |row: &[usize], column: usize| row.get(column).copied().unwrap_or(usize::MAX / 2);
            let change = at(&last, j) + usize::from(x != y);
            let mut best = change.min(at(&last, j + 1) + 1).min(at(&row, j) + 1);
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(y) && b.get(j - 1) == Some(x);
            if swapped {
                best = best.min(at(&before, j - 1) + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(a.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_a_stranger_is_not() {
        let known = ["hostname", "ip", "tags", "target_criteria", "include", "exclude"];
        let cases = [
            ("hostnmae", Some("hostname")),
            ("host_name", Some("hostname")),
            ("HOSTNAME", Some("hostname")),
            ("target-criteria", Some("target_criteria")),
            ("targetcriteria", Some("target_criteria")),
            ("tag", Some("tags")),
            ("includes", Some("include")),
            ("precedence", None),
            ("", None),
        ];
        for (word, expected) in cases {
            assert_eq!(nearest(word, known), expected, "{word:?}");
        }
    }
}
