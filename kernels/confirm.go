package kernels

// A confirmation is how a search tests its survivors once more.
type confirmation string

const (
	// anew has the survivor's seed tested by another search, whose record is
	// the one that counts (two-phase).
	anew confirmation = "anew"
	// besides has the seed tested by another search as well (the original's
	// bidirectional).
	besides confirmation = "besides"
	// heldOut has the draws that the search did not see tested at the survivor's
	// own skip and offset (bidirectional).
	heldOut confirmation = "held out"
)

// confirms tests a survivor once more.
func (v *sieve) confirms(first Survivor) (Survivor, bool) {
	v.confirm.abort = v.abort
	switch v.search.confirmation {
	case anew:
		return v.confirm.test(first.Seed, nil)
	case heldOut:
		_, ok := v.confirm.at(first)
		return first, ok
	default:
		_, ok := v.confirm.test(first.Seed, nil)
		return first, ok
	}
}

// at counts the matches at a survivor's own skip and offset.
func (v *sieve) at(survivor Survivor) (matches int, ok bool) {
	v.begin(survivor.Seed, nil)
	matches, _ = v.compare(uint32(survivor.Skip), survivor.Offset, len(v.search.points))
	return matches, matches >= v.search.need
}
