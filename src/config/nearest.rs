//! The right word for a typo.

/// The candidate that is most likely meant by `word`; `None` if none is close.
pub(super) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let word = word.to_ascii_lowercase().replace('-', "_");
    candidates
        .into_iter()
        .map(|candidate| (similarity(&word, candidate), candidate))
        .filter(|(similarity, _)| *similarity >= 0.7)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

/// 1.0 for equal words, 0.0 for words without a letter in common.
fn similarity(word: &str, candidate: &str) -> f64 {
    // Distance alone, relative to the length, would call `port` a typo of `host`.
    strsim::normalized_damerau_levenshtein(word, &candidate.replace('-', "_"))
}
