// Package nearest finds the known word that a mistyped word was probably meant to be.
package nearest

import "strings"

// maxWord is the length of the longest word that is compared, in bytes. The time of a comparison
// grows with the square of the length.
const maxWord = 64

// To returns the word of known that is nearest to word; "" if none is near enough. One letter in
// three may be missing, added, different, or swapped with its neighbour. Capitals, underscores and
// hyphens make no difference. If two words are equally near, To returns the first one.
func To(word string, known []string) string {
	if len(word) > maxWord {
		return ""
	}
	nearest, least := "", -1
	for _, k := range known {
		if len(k) > maxWord {
			continue
		}
		a, b := fold(word), fold(k)
		d := distance(a, b)
		if d <= max(len(a), len(b))/3 && (least < 0 || d < least) {
			nearest, least = k, d
		}
	}
	return nearest
}

func fold(word string) []rune {
	return []rune(strings.NewReplacer("_", "", "-", "").Replace(strings.ToLower(word)))
}

// distance returns how many edits turn one word into the other (optimal string alignment).
func distance(a, b []rune) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range a {
		row[0] = i + 1
		for j := range b {
			substituted := last[j]
			if a[i] != b[j] {
				substituted++
			}
			row[j+1] = min(substituted, last[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
