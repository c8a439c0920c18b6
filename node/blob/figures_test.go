package blob

import (
	"slices"
	"strings"
	"testing"

	"seedmesh/kernels"
)

// withFigures gives survivors as many bytes of figures each.
func withFigures(list []kernels.Survivor, size int) []kernels.Survivor {
	for i := range list {
		list[i].Figures = strings.Repeat(string(rune('a'+i%26)), size)
	}
	return list
}

// TestFigures writes more than a Writer holds in memory, cuts, folds and reads it.
func TestFigures(t *testing.T) {
	for _, size := range []int{1, 200, kernels.MaxFigures} {
		s := newStore(t)
		list := withFigures(someSurvivors(10, 1+3*bufferBytes/(recordBytes+size)), size)
		for keep := range len(list) + 1 {
			if keep > 2 && keep < len(list)-2 && keep%97 != 0 {
				continue
			}
			w := s.NewWriter(3, 10)
			if err := w.Append(list...); err != nil {
				t.Fatal(err)
			}
			last := list[len(list)-1].Seed
			if keep < len(list) {
				last = list[keep].Seed - 1
			}
			if err := w.Cut(last); err != nil {
				t.Fatal(err)
			}
			info, err := w.Finish(last)
			if err != nil {
				t.Fatal(err)
			}
			header, got := contents(t, s, info.Digest)
			if !slices.Equal(got, list[:keep]) || header != info.Header || keep > 0 && header.Figures != size {
				t.Fatalf("%d of %d survivors with %d bytes: %d come back, header %v", keep, len(list), size, len(got), header)
			}
		}
		half := len(list) / 2
		parts := []Digest{
			finish(t, s, 3, kernels.Range{First: 10, Last: list[half].Seed - 1}, list[:half], 100).Digest,
			finish(t, s, 3, kernels.Range{First: list[half].Seed, Last: list[len(list)-1].Seed}, list[half:], 100).Digest,
		}
		w := s.NewWriter(3, 10)
		if err := s.Merge(w, parts...); err != nil {
			t.Fatal(err)
		}
		merged, err := w.Finish(list[len(list)-1].Seed)
		if err != nil || merged.Digest != finish(t, s, 3, kernels.Range{First: 10, Last: list[len(list)-1].Seed}, list, 1).Digest {
			t.Errorf("two parts with %d bytes of figures do not merge into the whole: %v", size, err)
		}
	}
}

func TestUnequalFiguresAreRefused(t *testing.T) {
	for name, second := range map[string]string{"none": "", "more": "abc", "too many": strings.Repeat("a", kernels.MaxFigures+1)} {
		w := newStore(t).NewWriter(0, 0)
		first := "ab"
		if name == "too many" {
			first = second
		}
		if err := w.Append(kernels.Survivor{Seed: 1, Figures: first}, kernels.Survivor{Seed: 2, Figures: second}); err == nil {
			t.Errorf("%s: survivors with %d and %d bytes of figures are taken", name, len(first), len(second))
		}
	}
}
