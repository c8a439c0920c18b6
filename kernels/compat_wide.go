package kernels

var compatMt19937 = func() definition {
	d := compatible("mt19937", 32, 19968, 32, steps,
		"As mt19937 with init_genrand seeding.",
		func() stream { return new(mtStream) })
	d.setupSteps = mt19937.setupSteps
	return d
}()

var compatXoshiro256pp = compatible("xoshiro256pp", 64, 256, 64, steps,
	"s0=seed, s1=0x9E3779B97F4A7C15, s2=0x6A09E667F3BCC908, s3=0xBB67AE8584CAA73B. Output rotl(s0+s3,23)+s0 (64 bit); "+
		"t=s1<<17; s2^=s0; s3^=s1; s1^=s2; s0^=s3; s2^=t; s3=rotl(s3,45). Published advice fills the state from splitmix64.",
	func() stream {
		return stepped{&xoshiro256Engine{start: compatXoshiroStart, out: xoshiro256plusplusOut}}
	}).withKernel(streamKernel{file: "xoshiro256", variant: 3})

var compatPhilox4x32 = compatible("philox4x32", 64, 96, 32, jumps,
	"Philox4x32, 10 rounds, key words low and high half of the seed. Output number n is word 0 of the block with counter (n,0,0,0). "+
		"Round: (hi,lo) of c0*0xD2511F53 and c2*0xCD9E8D57; c=(hi1^c1^k0, lo1, hi0^c3^k1, lo0); k+=(0x9E3779B9,0xBB67AE85). "+
		"The published use takes all four words of a block.",
	func() stream { return new(compatPhiloxStream) }).withKernel(streamKernel{file: "philox4x32", variant: 1})

var compatSfc64 = compatible("sfc64", 64, 256, 64, steps,
	"a=seed, b=0x9E3779B97F4A7C15, c=0x6A09E667F3BCC908, n=1, no warm-up. Output o=a+b+n (64 bit); n+=1; a=b^(b>>11); b=c+(c<<3); c=rotl(c,24)+o. "+
		"The published generator seeds a=b=c and discards 12 outputs.",
	plain[compatSfcEngine]).withKernel(streamKernel{file: "sfc64", variant: 1})

func compatXoshiroStart(seed uint64) xoshiro256 {
	return xoshiro256{seed, 0x9E3779B97F4A7C15, 0x6A09E667F3BCC908, 0xBB67AE8584CAA73B}
}

type compatPhiloxStream struct {
	key     [2]uint32
	counter uint32
}

func (g *compatPhiloxStream) seed(seed uint64) {
	*g = compatPhiloxStream{key: [2]uint32{uint32(seed), uint32(seed >> 32)}}
}

func (g *compatPhiloxStream) skip(n uint64) { g.counter += uint32(n) }

func (g *compatPhiloxStream) fill(dst []uint64) {
	for i := range dst {
		word, _, _, _ := philoxRounds4x32(g.counter, 0, g.key[0], g.key[1])
		dst[i] = uint64(word)
		g.counter++
	}
}

type compatSfcEngine struct{ sfc64State }

func (g *compatSfcEngine) seed(seed uint64) {
	g.sfc64State = sfc64State{seed, 0x9E3779B97F4A7C15, 0x6A09E667F3BCC908, 1}
}
