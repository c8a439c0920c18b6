package kernels

var glibcRand = definition{
	Generator: Generator{
		Name:      "glibc_rand",
		Met:       "C on Linux: srand(seed); rand(), or srandom and random",
		SeedBits:  32,
		StateBits: 992,
		WidthBits: 31,
		Definition: "r[0]=seed (0 becomes 1) as signed 32 bit; r[i]=16807*r[i-1] mod 2147483647, not negative, for i=1..30; " +
			"r[i]=r[i-31] for i=31..33; then r[i]=r[i-3]+r[i-31] mod 2^32. Output number n is r[n+344]>>1 (31 bit). " +
			"Seeds 0 and 1 give the same stream.",
		Source: "glibc 2.36 srand/rand",
	},
	setupSteps: 60,
	open:       func() stream { return new(glibcStream) },
}

const (
	glibcDegree  = 31
	glibcFirst   = 344 // the word of output number 0
	glibcDirect  = 9   // up to this many outputs are cheaper one by one from the first 31 words
	glibcWeighed = 64  // words from glibcFirst on that have a row of weights
)

// glibcPowers are 16807^i modulo 2^31 - 1.
var glibcPowers = func() (p [glibcDegree]uint64) {
	p[0] = 1
	for i := 1; i < len(p); i++ {
		p[i] = mod31(p[i-1] * 16807)
	}
	return p
}()

// glibcWeights[n] are the numbers that the first 31 words are multiplied with
// to give word glibcFirst+n, since every later word is a sum of earlier ones.
var glibcWeights = func() *[glibcWeighed][glibcDegree]uint32 {
	words := make([][glibcDegree]uint32, glibcFirst+glibcWeighed)
	for i := range words {
		switch {
		case i < 31:
			words[i][i] = 1
		case i < 34:
			words[i] = words[i-31]
		default:
			for j := range glibcDegree {
				words[i][j] = words[i-3][j] + words[i-31][j]
			}
		}
	}
	return (*[glibcWeighed][glibcDegree]uint32)(words[glibcFirst:])
}()

// A glibcStream keeps the last 31 words in a ring; the word of the next output
// replaces ring[at].
type glibcStream struct {
	ring [glibcDegree]uint32
	at   int
}

// seed computes the 31 words before output number 0 directly.
func (g *glibcStream) seed(seed uint64) {
	g.firstWords(uint32(seed))
	g.at = 34 % glibcDegree // words 31 to 33 are words 0 to 2 and in place
	g.skip(glibcFirst - 34)
}

// firstWords sets ring[i] to r[i] for i below 31. The multiplications do not
// wait for each other, because r[i] is 16807^i times the seed modulo 2^31 - 1.
func (g *glibcStream) firstWords(seed uint32) {
	if seed == 0 {
		seed = 1
	}
	g.ring[0] = seed
	x := mod31(uint64(int64(int32(seed)) + 2*mersenne31)) // a signed seed, made positive
	for i := 1; i < glibcDegree; i++ {
		g.ring[i] = uint32(mod31(x * glibcPowers[i]))
	}
}

func (g *glibcStream) skip(n uint64) {
	for range n {
		g.next()
	}
}

func (g *glibcStream) fill(dst []uint64) {
	for i := range dst {
		dst[i] = uint64(g.next() >> 1)
	}
}

func (g *glibcStream) next() uint32 {
	three := g.at - 3
	if three < 0 {
		three += glibcDegree
	}
	w := g.ring[g.at] + g.ring[three]
	g.ring[g.at] = w
	if g.at++; g.at == glibcDegree {
		g.at = 0
	}
	return w
}

// heads takes a few early outputs straight from the first words, which saves
// the three hundred additions before them.
func (g *glibcStream) heads(first, from uint64, n int, dst []uint64) {
	direct := n <= glibcDirect && from+uint64(n) <= glibcWeighed
	for ; len(dst) >= n; first, dst = first+1, dst[n:] {
		if !direct {
			g.seed(first)
			g.skip(from)
			g.fill(dst[:n])
			continue
		}
		g.firstWords(uint32(first))
		for i := range n {
			var sum uint32
			for j, w := range &glibcWeights[int(from)+i] {
				sum += w * g.ring[j]
			}
			dst[i] = uint64(sum >> 1)
		}
	}
}
