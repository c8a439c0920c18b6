package kernels

import "math/bits"

// Counter-based generators: Philox and Threefry, as Random123 has them.

const counterText = "further key words 0; counter (all words) starts at 0 and is incremented by 1 (word 0 least significant) after each block; the block words are the " +
	"outputs in order 0,1,.."

const philox4x64Text = "10 rounds of Philox4x64: M0=0xD2E7470EE14C6C93,M1=0xCA5A826395121157; round: p0=M0*c0,p1=M1*c2 (128-bit); c=(hi(p1)^c1^k0, lo(p1), hi(p0)^c3^k1, " +
	"lo(p0)); then k0+=0x9E3779B97F4A7C15,k1+=0xBB67AE8584CAA73B."

var philox4x3210 = definition{
	Generator: Generator{
		Name:      "philox4x32_10",
		Met:       "Random123, cuRAND, PyTorch, TensorFlow and JAX (which seed and count otherwise)",
		SeedBits:  64,
		StateBits: 192,
		WidthBits: 32,
		Definition: "key words = (lo32(seed), hi32(seed)), " +
			counterText +
			" 10 rounds; M0=0xD2511F53,M1=0xCD9E8D57; round: p0=M0*c0,p1=M1*c2; c=(hi(p1)^c1^k0, lo(p1), hi(p0)^c3^k1, lo(p0)); then k0+=0x9E3779B9,k1+=0xBB67AE85.",
		Source: "Random123 (Debian librandom123-dev) Philox4x32; seed 0 block 0 = 6627e8d5 e169c58d bc57ac4c 9b00dbd8, the published known answer",
	},
	jumps:      true,
	kernel:     streamKernel{file: "philox4x32"},
	setupSteps: 1,
	open:       func() stream { return &blockStream{words: 4, start: keyOfHalves, block: philox4x32} },
}

var philox2x3210 = definition{
	Generator: Generator{
		Name:      "philox2x32_10",
		Met:       "Random123 Philox2x32",
		SeedBits:  32,
		StateBits: 96,
		WidthBits: 32,
		Definition: "key=lo32(seed); counter (all words) starts at 0 and is incremented by 1 (word 0 least significant) after each block; the block words are the outputs " +
			"in order 0,1,.. 10 rounds: p=0xD256D193*c0; c=(hi(p)^k^c1, lo(p)); then k+=0x9E3779B9",
		Source: "Random123 (Debian librandom123-dev) Philox2x32",
	},
	jumps:      true,
	setupSteps: 1,
	open:       func() stream { return &blockStream{words: 2, start: keyOfSeed, block: philox2x32} },
}

var philox4x6410 = definition{
	Generator: Generator{
		Name:      "philox4x64_10",
		Met:       "Random123 Philox4x64",
		SeedBits:  64,
		StateBits: 384,
		WidthBits: 64,
		Definition: "key word 0 = seed, " +
			counterText +
			" " +
			philox4x64Text,
		Source: "Random123 (Debian librandom123-dev) Philox4x64",
	},
	jumps:      true,
	setupSteps: 1,
	open:       func() stream { return &blockStream{words: 4, start: keyOfSeed, block: philox4x64} },
}

var philox2x6410 = definition{
	Generator: Generator{
		Name:      "philox2x64_10",
		Met:       "Random123 Philox2x64",
		SeedBits:  64,
		StateBits: 192,
		WidthBits: 64,
		Definition: "key word 0 = seed, " +
			counterText +
			" 10 rounds: p=0xD2B74407B1CE6E93*c0 (128-bit); c=(hi(p)^k^c1, lo(p)); then k+=0x9E3779B97F4A7C15",
		Source: "Random123 (Debian librandom123-dev) Philox2x64",
	},
	jumps:      true,
	setupSteps: 1,
	open:       func() stream { return &blockStream{words: 2, start: keyOfSeed, block: philox2x64} },
}

var threefry4x3220 = definition{
	Generator: Generator{
		Name:      "threefry4x32_20",
		Met:       "Random123 Threefry4x32",
		SeedBits:  64,
		StateBits: 256,
		WidthBits: 32,
		Definition: "key words = (lo32(seed), hi32(seed)), " +
			counterText +
			" 20 rounds; ks=key words plus XOR of all with 0x1BD11BDA; x=ctr+key; even rounds: x0+=x1,x1=rotl(x1,a)^x0; x2+=x3,x3=rotl(x3,b)^x2; odd rounds: " +
			"x0+=x3,x3=rotl(x3,a)^x0; x2+=x1,x1=rotl(x1,b)^x2; (a,b) cycle (10,26)(11,21)(13,27)(23,5)(6,20)(17,11)(25,10)(18,20); after every 4th round q " +
			"(q=1..5): x[i]+=ks[(q+i) mod 5], and x[last]+=q.",
		Source: "Random123 (Debian librandom123-dev) Threefry4x32",
	},
	jumps:      true,
	setupSteps: 1,
	open:       func() stream { return &blockStream{words: 4, start: keyOfHalves, block: threefry4x32} },
}

var threefry2x3220 = definition{
	Generator: Generator{
		Name:      "threefry2x32_20",
		Met:       "Random123 Threefry2x32; the block function of JAX",
		SeedBits:  64,
		StateBits: 128,
		WidthBits: 32,
		Definition: "key words = (lo32(seed), hi32(seed)), " +
			counterText +
			" 20 rounds; ks=key words plus XOR of all with 0x1BD11BDA; x=ctr+key; each round: x0+=x1; x1=rotl(x1,r)^x0; r cycles 13,15,26,6,17,29,16,24; after " +
			"every 4th round q (q=1..5): x[i]+=ks[(q+i) mod 3], and x[last]+=q.",
		Source: "Random123 (Debian librandom123-dev) Threefry2x32",
	},
	jumps:      true,
	setupSteps: 1,
	open:       func() stream { return &blockStream{words: 2, start: keyOfHalves, block: threefry2x32} },
}

var threefry4x6420 = definition{
	Generator: Generator{
		Name:      "threefry4x64_20",
		Met:       "Random123 Threefry4x64",
		SeedBits:  64,
		StateBits: 512,
		WidthBits: 64,
		Definition: "key word 0 = seed, " +
			counterText +
			" 20 rounds; ks=key words plus XOR of all with 0x1BD11BDAA9FC1A22; x=ctr+key; even rounds: x0+=x1,x1=rotl(x1,a)^x0; x2+=x3,x3=rotl(x3,b)^x2; odd " +
			"rounds: x0+=x3,x3=rotl(x3,a)^x0; x2+=x1,x1=rotl(x1,b)^x2; (a,b) cycle (14,16)(52,57)(23,40)(5,37)(25,33)(46,12)(58,22)(32,32); after every 4th round " +
			"q (q=1..5): x[i]+=ks[(q+i) mod 5], and x[last]+=q.",
		Source: "Random123 (Debian librandom123-dev) Threefry4x64",
	},
	jumps:      true,
	setupSteps: 1,
	open:       func() stream { return &blockStream{words: 4, start: keyOfSeed, block: threefry4x64} },
}

var threefry2x6420 = definition{
	Generator: Generator{
		Name:      "threefry2x64_20",
		Met:       "Random123 Threefry2x64",
		SeedBits:  64,
		StateBits: 256,
		WidthBits: 64,
		Definition: "key word 0 = seed, " +
			counterText +
			" 20 rounds; ks=key words plus XOR of all with 0x1BD11BDAA9FC1A22; x=ctr+key; each round: x0+=x1; x1=rotl(x1,r)^x0; r cycles 16,42,12,31,16,32,24,21; " +
			"after every 4th round q (q=1..5): x[i]+=ks[(q+i) mod 3], and x[last]+=q.",
		Source: "Random123 (Debian librandom123-dev) Threefry2x64",
	},
	jumps:      true,
	setupSteps: 1,
	open:       func() stream { return &blockStream{words: 2, start: keyOfSeed, block: threefry2x64} },
}

// A blockStream gives the words of one block after the other; a block is a
// function of the key and its number. It jumps.
type blockStream struct {
	words uint64 // in a block
	first uint64 // number of the first block
	start func(seed uint64) (key [2]uint64)
	block func(key [2]uint64, number uint64) [4]uint64

	key  [2]uint64
	at   uint64 // number of the next output
	made bool   // have holds the words of the block that the next output is in
	have [4]uint64
}

func (g *blockStream) seed(seed uint64) {
	g.key = g.start(seed)
	g.at, g.made = 0, false
}

func (g *blockStream) skip(n uint64) {
	g.at += n
	g.made = false
}

func (g *blockStream) fill(dst []uint64) {
	for i := range dst {
		word := g.at % g.words
		if word == 0 || !g.made {
			g.have = g.block(g.key, g.first+g.at/g.words)
			g.made = true
		}
		dst[i] = g.have[word]
		g.at++
	}
}

func keyOfSeed(seed uint64) [2]uint64 { return [2]uint64{seed} }

func keyOfHalves(seed uint64) [2]uint64 { return [2]uint64{seed & (1<<32 - 1), seed >> 32} }

const (
	philoxRounds   = 10
	threefryRounds = 20
)

func philox4x32(key [2]uint64, number uint64) [4]uint64 {
	c0, c1, c2, c3 := philoxRounds4x32(uint32(number), uint32(number>>32), uint32(key[0]), uint32(key[1]))
	return [4]uint64{uint64(c0), uint64(c1), uint64(c2), uint64(c3)}
}

// philoxRounds4x32 is the block whose counter has two words that are not 0.
func philoxRounds4x32(c0, c1, k0, k1 uint32) (w0, w1, w2, w3 uint32) {
	var c2, c3 uint32
	for range philoxRounds {
		p0 := uint64(c0) * 0xD2511F53
		p1 := uint64(c2) * 0xCD9E8D57
		c0, c1, c2, c3 = uint32(p1>>32)^c1^k0, uint32(p1), uint32(p0>>32)^c3^k1, uint32(p0)
		k0 += 0x9E3779B9
		k1 += 0xBB67AE85
	}
	return c0, c1, c2, c3
}

func philox2x32(key [2]uint64, number uint64) [4]uint64 {
	c0, c1, k := uint32(number), uint32(number>>32), uint32(key[0])
	for range philoxRounds {
		p := uint64(c0) * 0xD256D193
		c0, c1 = uint32(p>>32)^k^c1, uint32(p)
		k += 0x9E3779B9
	}
	return [4]uint64{uint64(c0), uint64(c1)}
}

func philox4x64(key [2]uint64, number uint64) [4]uint64 {
	c0, c1, c2, c3 := number, uint64(0), uint64(0), uint64(0)
	k0, k1 := key[0], key[1]
	for range philoxRounds {
		hi0, lo0 := bits.Mul64(c0, 0xD2E7470EE14C6C93)
		hi1, lo1 := bits.Mul64(c2, 0xCA5A826395121157)
		c0, c1, c2, c3 = hi1^c1^k0, lo1, hi0^c3^k1, lo0
		k0 += 0x9E3779B97F4A7C15
		k1 += 0xBB67AE8584CAA73B
	}
	return [4]uint64{c0, c1, c2, c3}
}

func philox2x64(key [2]uint64, number uint64) [4]uint64 {
	c0, c1, k := number, uint64(0), key[0]
	for range philoxRounds {
		hi, lo := bits.Mul64(c0, 0xD2B74407B1CE6E93)
		c0, c1 = hi^k^c1, lo
		k += 0x9E3779B97F4A7C15
	}
	return [4]uint64{c0, c1}
}

// The parities that complete a Threefry key.
const (
	threefryParity32 = 0x1BD11BDA
	threefryParity64 = 0x1BD11BDAA9FC1A22
)

func threefry2x32(key [2]uint64, number uint64) [4]uint64 {
	turns := [8]int{13, 15, 26, 6, 17, 29, 16, 24}
	ks := [3]uint32{uint32(key[0]), uint32(key[1]), threefryParity32 ^ uint32(key[0]) ^ uint32(key[1])}
	x0, x1 := uint32(number)+ks[0], uint32(number>>32)+ks[1]
	for r := range threefryRounds {
		x0 += x1
		x1 = bits.RotateLeft32(x1, turns[r%8]) ^ x0
		if q := r/4 + 1; r%4 == 3 {
			x0 += ks[q%3]
			x1 += ks[(q+1)%3] + uint32(q)
		}
	}
	return [4]uint64{uint64(x0), uint64(x1)}
}

func threefry2x64(key [2]uint64, number uint64) [4]uint64 {
	turns := [8]int{16, 42, 12, 31, 16, 32, 24, 21}
	ks := [3]uint64{key[0], key[1], threefryParity64 ^ key[0] ^ key[1]}
	x0, x1 := number+ks[0], ks[1]
	for r := range threefryRounds {
		x0 += x1
		x1 = bits.RotateLeft64(x1, turns[r%8]) ^ x0
		if q := r/4 + 1; r%4 == 3 {
			x0 += ks[q%3]
			x1 += ks[(q+1)%3] + uint64(q)
		}
	}
	return [4]uint64{x0, x1}
}

func threefry4x32(key [2]uint64, number uint64) [4]uint64 {
	turns := [8][2]int{{10, 26}, {11, 21}, {13, 27}, {23, 5}, {6, 20}, {17, 11}, {25, 10}, {18, 20}}
	ks := [5]uint32{uint32(key[0]), uint32(key[1]), 0, 0, threefryParity32 ^ uint32(key[0]) ^ uint32(key[1])}
	x := [4]uint32{uint32(number) + ks[0], uint32(number>>32) + ks[1], ks[2], ks[3]}
	for r := range threefryRounds {
		t, one, three := turns[r%8], 1+r%2*2, 3-r%2*2 // odd rounds exchange the partners
		x[0] += x[one]
		x[one] = bits.RotateLeft32(x[one], t[0]) ^ x[0]
		x[2] += x[three]
		x[three] = bits.RotateLeft32(x[three], t[1]) ^ x[2]
		if q := r/4 + 1; r%4 == 3 {
			for i := range x {
				x[i] += ks[(q+i)%5]
			}
			x[3] += uint32(q)
		}
	}
	return [4]uint64{uint64(x[0]), uint64(x[1]), uint64(x[2]), uint64(x[3])}
}

func threefry4x64(key [2]uint64, number uint64) [4]uint64 {
	turns := [8][2]int{{14, 16}, {52, 57}, {23, 40}, {5, 37}, {25, 33}, {46, 12}, {58, 22}, {32, 32}}
	ks := [5]uint64{key[0], key[1], 0, 0, threefryParity64 ^ key[0] ^ key[1]}
	x := [4]uint64{number + ks[0], ks[1], ks[2], ks[3]}
	for r := range threefryRounds {
		t, one, three := turns[r%8], 1+r%2*2, 3-r%2*2 // odd rounds exchange the partners
		x[0] += x[one]
		x[one] = bits.RotateLeft64(x[one], t[0]) ^ x[0]
		x[2] += x[three]
		x[three] = bits.RotateLeft64(x[three], t[1]) ^ x[2]
		if q := r/4 + 1; r%4 == 3 {
			for i := range x {
				x[i] += ks[(q+i)%5]
			}
			x[3] += uint64(q)
		}
	}
	return x
}
