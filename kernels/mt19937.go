package kernels

var mt19937 = definition{
	Generator: Generator{
		Name:      "mt19937",
		Met:       "std::mt19937 in C++, boost::mt19937, init_genrand in the authors' C code",
		SeedBits:  32,
		StateBits: 19968,
		WidthBits: 32,
		Definition: "mt[0]=seed, mt[i]=1812433253*(mt[i-1]^(mt[i-1]>>30))+i mod 2^32 for i=1..623. " +
			"Twist, in place for i=0..623: y=(mt[i]&0x80000000)|(mt[i+1 mod 624]&0x7fffffff), " +
			"mt[i]=mt[i+397 mod 624]^(y>>1)^(0x9908b0df if y odd). " +
			"Temper: y^=y>>11; y^=(y<<7)&0x9d2c5680; y^=(y<<15)&0xefc60000; y^=y>>18. Output y (32 bit).",
		Source: "libstdc++ (GCC 12.2.0) std::mt19937",
	},
	setupSteps: mtShift,
	open:       func() stream { return new(mtStream) },
}

const (
	mtWords  = 624
	mtShift  = 397
	mtFactor = 1812433253
	mtMatrix = 0x9908b0df
	mtLanes  = 8 // seeds that are initialised side by side
)

// An mtStream makes the state words only as far as the outputs asked for need
// them: output number i of the first 227 needs the words up to i+397.
type mtStream struct {
	mt    [mtWords]uint32
	ready int // words made from the seed
	next  int // word that the next output comes from

	lanes [mtWords][mtLanes]uint32
}

func (g *mtStream) seed(seed uint64) {
	g.mt[0] = uint32(seed)
	g.ready, g.next = 1, 0
}

func (g *mtStream) skip(n uint64) {
	for n > 0 {
		n -= uint64(g.twist(min(n, mtWords)))
	}
}

func (g *mtStream) fill(dst []uint64) {
	for len(dst) > 0 {
		n := g.twist(uint64(len(dst)))
		for i, y := range g.mt[g.next-n : g.next] {
			dst[i] = uint64(mtTemper(y))
		}
		dst = dst[n:]
	}
}

// twist makes up to n new words, ending just before next, and says how many.
func (g *mtStream) twist(n uint64) int {
	if g.next == mtWords {
		g.next = 0
	}
	first := g.next
	end := first + int(min(n, uint64(mtWords-first)))
	g.grow(min(end+mtShift, mtWords))
	mt := &g.mt
	i := first
	for ; i < min(end, mtWords-mtShift); i++ {
		mt[i] = mt[i+mtShift] ^ mtMix(mt[i], mt[i+1])
	}
	for ; i < min(end, mtWords-1); i++ {
		mt[i] = mt[i+mtShift-mtWords] ^ mtMix(mt[i], mt[i+1])
	}
	if i < end {
		mt[i] = mt[mtShift-1] ^ mtMix(mt[i], mt[0])
	}
	g.next = end
	return end - first
}

// grow makes the state words before end from the seed.
func (g *mtStream) grow(end int) {
	if g.ready >= end {
		return
	}
	x := g.mt[g.ready-1]
	for i := g.ready; i < end; i++ {
		x = mtFactor*(x^x>>30) + uint32(i)
		g.mt[i] = x
	}
	g.ready = end
}

// heads runs eight seeds side by side when only the first outputs are wanted,
// where the time goes into one long chain of multiplications for each seed.
func (g *mtStream) heads(first, from uint64, n int, dst []uint64) {
	end := from + uint64(n)
	for ; len(dst) >= n; first, dst = first+1, dst[n:] {
		for len(dst) >= mtLanes*n && end <= mtWords-mtShift {
			g.headLanes(first, int(from), n, dst[:mtLanes*n])
			first, dst = first+mtLanes, dst[mtLanes*n:]
		}
		if len(dst) < n {
			return
		}
		g.seed(first)
		g.skip(from)
		g.fill(dst[:n])
	}
}

func (g *mtStream) headLanes(first uint64, from, n int, dst []uint64) {
	g.initLanes(uint32(first), from, from+n)
	for i := from; i < from+n; i++ {
		here, after, far := &g.lanes[i], &g.lanes[i+1], &g.lanes[i+mtShift]
		for lane := range mtLanes {
			y := far[lane] ^ mtMix(here[lane], after[lane])
			dst[lane*n+i-from] = uint64(mtTemper(y))
		}
	}
}

// initLanes makes the state words that the outputs from number `from` to
// before end need, for mtLanes seeds.
func (g *mtStream) initLanes(first uint32, from, end int) {
	var v [mtLanes]uint32
	for lane := range v {
		v[lane] = first + uint32(lane)
	}
	g.lanes[0] = v
	at := 1
	v = g.passLanes(v, at, from)
	at = max(at, from)
	v = g.keepLanes(v, at, end+1)
	at = max(at, end+1)
	v = g.passLanes(v, at, from+mtShift)
	at = max(at, from+mtShift)
	g.keepLanes(v, at, end+mtShift)
}

// passLanes steps the initialisation through words from to before end.
func (g *mtStream) passLanes(v [mtLanes]uint32, from, end int) [mtLanes]uint32 {
	a, b, c, d, e, f, p, q := v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7]
	for i := from; i < end; i++ {
		n := uint32(i)
		a = mtFactor*(a^a>>30) + n
		b = mtFactor*(b^b>>30) + n
		c = mtFactor*(c^c>>30) + n
		d = mtFactor*(d^d>>30) + n
		e = mtFactor*(e^e>>30) + n
		f = mtFactor*(f^f>>30) + n
		p = mtFactor*(p^p>>30) + n
		q = mtFactor*(q^q>>30) + n
	}
	return [mtLanes]uint32{a, b, c, d, e, f, p, q}
}

// keepLanes is passLanes, and stores the words.
func (g *mtStream) keepLanes(v [mtLanes]uint32, from, end int) [mtLanes]uint32 {
	for i := from; i < end; i++ {
		for lane := range v {
			v[lane] = mtFactor*(v[lane]^v[lane]>>30) + uint32(i)
		}
		g.lanes[i] = v
	}
	return v
}

func mtMix(here, after uint32) uint32 {
	y := here&0x80000000 | after&0x7fffffff
	return y>>1 ^ -(y&1)&mtMatrix
}

func mtTemper(y uint32) uint32 {
	y ^= y >> 11
	y ^= y << 7 & 0x9d2c5680
	y ^= y << 15 & 0xefc60000
	return y ^ y>>18
}
