//! The right word for a typo.

use strsim::normalized_damerau_levenshtein as similarity;

/// The candidate that is most likely meant by `word`; `None` if none is close.
pub(super) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let word = word.to_ascii_lowercase().replace('-', "_");
    candidates
        .into_iter()
        .map(|candidate| (similarity(&word, &candidate.replace('-', "_")), candidate))
        .filter(|(similarity, _)| *similarity >= 0.7)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}
