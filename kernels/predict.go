package kernels

import "fmt"

// Limits of a prediction.
const (
	MaxPredict      = 1 << 20 // draws
	MaxPredictSteps = 1 << 32 // generator advances
)

// Predict gives count draws of a found seed, from draw number `from` of the
// window on: draw i is the observed output number offset + i*(skip+1), and for
// the compat: names offset + skip + i*(skip+1).
func Predict(generator string, seed uint64, skip, offset, from, count uint32, observe string) ([]uint64, error) {
	def, err := lookup(generator)
	if err != nil {
		return nil, err
	}
	view, err := parseObserve(observe)
	if err != nil {
		return nil, err
	}
	sight, err := view.on(def)
	if err != nil {
		return nil, err
	}
	def = sight.def
	last := def.Space().Last
	steps := addSat(uint64(offset), mulSat(uint64(from)+uint64(count)+1, uint64(skip)+1))
	switch {
	case def.reversed:
		return nil, &SpecError{
			fmt.Sprintf("%s matches a window backwards, which says nothing about the draws after it", generator),
			"use the name without _reverse",
		}
	case seed > last:
		return nil, &SpecError{
			fmt.Sprintf("the seed %d is not in the seed space %s of %s", seed, def.Space(), generator),
			fmt.Sprintf("use a seed up to %d", last),
		}
	case skip > MaxSkip:
		return nil, &SpecError{fmt.Sprintf("the skip %d is above the limit of %d", skip, MaxSkip), "use a smaller --skip"}
	case count > MaxPredict:
		return nil, &SpecError{
			fmt.Sprintf("%d draws were asked for, and the limit is %d", count, MaxPredict),
			fmt.Sprintf("use --count %d or less", MaxPredict),
		}
	case steps > MaxPredictSteps:
		return nil, &SpecError{
			fmt.Sprintf("the prediction takes %d generator advances, and the limit is %d", steps, uint64(MaxPredictSteps)),
			"ask for fewer draws, or for draws nearer to the start",
		}
	}
	g := def.open()
	g.seed(seed)
	g.skip(uint64(offset) + uint64(from)*(uint64(skip)+1))
	if def.leadSkip {
		g.skip(uint64(skip))
	}
	draws := make([]uint64, count)
	for i := range draws {
		g.fill(draws[i:][:1])
		g.skip(uint64(skip))
	}
	for i, v := range draws {
		draws[i] = sight.see(v)
	}
	return draws, nil
}
