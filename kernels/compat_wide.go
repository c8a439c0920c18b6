package kernels

import "math/bits"

var compatMt19937 = func() definition {
	d := compatible("mt19937", 32, 32, steps,
		"As mt19937 with init_genrand seeding.",
		func() stream { return new(mtStream) })
	d.setupSteps = mt19937.setupSteps
	return d
}()

var compatXoshiro256pp = compatible("xoshiro256pp", 64, 64, steps,
	"s0=seed, s1=0x9E3779B97F4A7C15, s2=0x6A09E667F3BCC908, s3=0xBB67AE8584CAA73B. Output rotl(s0+s3,23)+s0 (64 bit); "+
		"t=s1<<17; s2^=s0; s3^=s1; s1^=s2; s0^=s3; s2^=t; s3=rotl(s3,45). Published advice fills the state from splitmix64.",
	func() stream { return new(compatXoshiroStream) })

var compatPhilox4x32 = compatible("philox4x32", 64, 32, jumps,
	"Philox4x32, 10 rounds, key words low and high half of the seed. Output number n is word 0 of the block with counter (n,0,0,0). "+
		"Round: (hi,lo) of c0*0xD2511F53 and c2*0xCD9E8D57; c=(hi1^c1^k0, lo1, hi0^c3^k1, lo0); k+=(0x9E3779B9,0xBB67AE85). "+
		"The published use takes all four words of a block.",
	func() stream { return new(compatPhiloxStream) })

var compatSfc64 = compatible("sfc64", 64, 64, steps,
	"a=seed, b=0x9E3779B97F4A7C15, c=0x6A09E667F3BCC908, n=1, no warm-up. Output o=a+b+n (64 bit); n+=1; a=b^(b>>11); b=c+(c<<3); c=rotl(c,24)+o. "+
		"The published generator seeds a=b=c and discards 12 outputs.",
	func() stream { return new(compatSfcStream) })

type compatXoshiroStream struct{ s0, s1, s2, s3 uint64 }

func (g *compatXoshiroStream) seed(seed uint64) {
	*g = compatXoshiroStream{seed, 0x9E3779B97F4A7C15, 0x6A09E667F3BCC908, 0xBB67AE8584CAA73B}
}

func (g *compatXoshiroStream) skip(n uint64) {
	for range n {
		g.next()
	}
}

func (g *compatXoshiroStream) fill(dst []uint64) {
	for i := range dst {
		dst[i] = g.next()
	}
}

func (g *compatXoshiroStream) next() uint64 {
	out := bits.RotateLeft64(g.s0+g.s3, 23) + g.s0
	t := g.s1 << 17
	g.s2 ^= g.s0
	g.s3 ^= g.s1
	g.s1 ^= g.s2
	g.s0 ^= g.s3
	g.s2 ^= t
	g.s3 = bits.RotateLeft64(g.s3, 45)
	return out
}

type compatPhiloxStream struct {
	key0, key1, counter uint32
}

func (g *compatPhiloxStream) seed(seed uint64) {
	*g = compatPhiloxStream{key0: uint32(seed), key1: uint32(seed >> 32)}
}

func (g *compatPhiloxStream) skip(n uint64) { g.counter += uint32(n) }

func (g *compatPhiloxStream) fill(dst []uint64) {
	for i := range dst {
		dst[i] = uint64(philoxWord0(g.counter, g.key0, g.key1))
		g.counter++
	}
}

// philoxWord0 is the first word of the block with counter (n,0,0,0).
func philoxWord0(n, k0, k1 uint32) uint32 {
	c0, c1, c2, c3 := n, uint32(0), uint32(0), uint32(0)
	for range 10 {
		p0 := uint64(c0) * 0xD2511F53
		p1 := uint64(c2) * 0xCD9E8D57
		c0, c1, c2, c3 = uint32(p1>>32)^c1^k0, uint32(p1), uint32(p0>>32)^c3^k1, uint32(p0)
		k0 += 0x9E3779B9
		k1 += 0xBB67AE85
	}
	return c0
}

type compatSfcStream struct{ a, b, c, n uint64 }

func (g *compatSfcStream) seed(seed uint64) {
	*g = compatSfcStream{seed, 0x9E3779B97F4A7C15, 0x6A09E667F3BCC908, 1}
}

func (g *compatSfcStream) skip(n uint64) {
	for range n {
		g.next()
	}
}

func (g *compatSfcStream) fill(dst []uint64) {
	for i := range dst {
		dst[i] = g.next()
	}
}

func (g *compatSfcStream) next() uint64 {
	out := g.a + g.b + g.n
	g.n++
	g.a = g.b ^ g.b>>11
	g.b = g.c + g.c<<3
	g.c = bits.RotateLeft64(g.c, 24) + out
	return out
}
