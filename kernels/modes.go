package kernels

import (
	"fmt"
	"slices"
	"strings"
)

// strategies are those of a search with a variable skip.
func (s *Spec) strategies() []Strategy {
	if len(s.Strategies) == 0 {
		return presets
	}
	return s.Strategies
}

// modeOf is the mode of one generator: a name of the original system may state
// that its skip varies.
func (s *Spec) modeOf(def *definition) string {
	if def.hybrid {
		return ModeHybrid
	}
	return or(s.Mode, ModeFixed)
}

// varies tells that the skip of some generator may change. One that is unknown has an
// error of its own.
func (s *Spec) varies() bool {
	return slices.ContainsFunc(s.Generators, func(name string) bool {
		def, err := lookup(name)
		return err != nil || s.modeOf(def) != ModeFixed
	})
}

// Confirms reports whether survivors are tested once more with a need of their
// own.
func (s *Spec) Confirms() bool { return s.Mode == ModeTwoPhase || s.Direction == Bidirectional }

// checkMode checks what mode and direction ask for together.
func (s *Spec) checkMode() error {
	modes := []string{ModeFixed, ModeHybrid, ModeTwoPhase}
	directions := []string{Forward, ReverseWindow, Backward, Bidirectional, CompatBidirectional}
	mode, direction := or(s.Mode, ModeFixed), or(s.Direction, Forward)
	both := direction == Bidirectional || direction == CompatBidirectional
	switch {
	case !slices.Contains(modes, mode):
		return &SpecError{fmt.Sprintf("the mode %q is unknown", clip(mode)), "use --mode " + strings.Join(modes, ", ")}
	case !slices.Contains(directions, direction):
		return &SpecError{fmt.Sprintf("the direction %q is unknown", clip(direction)), "use --direction " + strings.Join(directions, ", ")}
	case both && mode != ModeFixed:
		return &SpecError{fmt.Sprintf("the direction %s has a fixed skip, and the mode %s was asked for", direction, mode), "use --mode fixed"}
	case mode == ModeHybrid && s.Skip != Bounds{}:
		return &SpecError{"the mode hybrid finds the skips itself, and skips were given", "leave out --skip, or use --mode two-phase"}
	case len(s.Strategies) > MaxStrategies:
		return &SpecError{fmt.Sprintf("%d strategies were given, and the limit is %d", len(s.Strategies), MaxStrategies), strategyHelp()}
	case len(s.Strategies) > 0 && !s.varies():
		return &SpecError{"strategies were given, and no skip changes between two draws", "use --strategy with --mode hybrid or two-phase"}
	case !s.Confirms() && s.ConfirmMatches != 0:
		return &SpecError{"a need for confirmation was given, and nothing is confirmed", "use it with --mode two-phase or --direction bidirectional"}
	case direction != Bidirectional && s.Split != 0:
		return &SpecError{"a split of the draws was given, and the draws are not divided", "use it with --direction bidirectional"}
	}
	for _, t := range s.Strategies {
		if known, err := ParseStrategy(t.Name); err != nil || known != t {
			return &SpecError{fmt.Sprintf("the strategy %q is unknown", clip(t.Name)), strategyHelp()}
		}
	}
	return s.checkSplit()
}

func (s *Spec) checkSplit() error {
	if s.Direction != Bidirectional {
		return nil
	}
	if n := int64(len(s.Draws)); int64(s.Split) >= n || Known(s.Draws[:s.Split]) == 0 || Known(s.Draws[s.Split:]) == 0 {
		return &SpecError{
			fmt.Sprintf("a split after %d of %d draws leaves no known draws on one side", s.Split, n),
			"use a --split between, such as two thirds of the draws",
		}
	}
	return nil
}

// checkNamed checks what the name of a generator states against mode and
// direction.
func (s *Spec) checkNamed(def *definition) error {
	direction := or(s.Direction, Forward)
	switch {
	case def.reversed && direction != Forward:
		return &SpecError{
			fmt.Sprintf("%s reverses the draws already, and the direction %s would turn them back", def.Name, direction),
			"leave out --direction, or use the name without _reverse",
		}
	case def.hybrid && (s.Mode == ModeTwoPhase || direction == Bidirectional || direction == CompatBidirectional):
		return &SpecError{
			fmt.Sprintf("%s has a variable skip already", def.Name),
			"use the name without _hybrid",
		}
	case direction != Backward:
		return nil
	}
	observe, err := parseObserve(s.Observe)
	if err != nil {
		return err
	}
	if sight, err := observe.on(def); err == nil && sight.def != def {
		return &SpecError{
			fmt.Sprintf("the results of %s cannot be run backwards, because a call may take several outputs", observe),
			"use --direction forward",
		}
	}
	_, err = def.backwards()
	return err
}
