package kernels

// Ruby seeds the Mersenne Twister with the word of a small number, and with the
// array of a large one.

var rubyRand232 = definition{
	Generator: Generator{
		Name:      "ruby_rand_2_32",
		Met:       "Ruby: Random.new(n).rand(2**32), srand(n); rand(2**32)",
		SeedBits:  64,
		StateBits: 19968,
		WidthBits: 32,
		Definition: "seed below 2^32: init_genrand(seed); larger: init_by_array of its 32-bit little-endian words. " +
			mtText +
			" " +
			mtGenrandText +
			" " +
			mtArrayText,
		Source: "Ruby 3.1.7 Random.new(seed).rand(2**32)",
	},
	setupSteps: 1900,
	open:       openRuby,
}

var rubyRand1000 = definition{
	Generator: Generator{
		Name:      "ruby_rand1000",
		Met:       "Ruby: Random.new(n).rand(1000), srand(n); rand(1000)",
		SeedBits:  64,
		StateBits: 19968,
		WidthBits: 10,
		Definition: "as ruby_rand_2_32. " +
			mtText +
			" " +
			mtGenrandText +
			" " +
			mtArrayText +
			" rand(1000): r=out&1023 (low bits), redraw while r>=1000.",
		Source: "Ruby 3.1.7 Random.new(seed).rand(1000)",
	},
	setupSteps: 1900,
	most:       999,
	open:       results(openRuby, maskedBelow(1000, 1023)),
}

var rubyRand53 = definition{
	Generator: Generator{
		Name:      "ruby_rand53",
		Met:       "Ruby: Random.new(n).rand, times 2^53",
		SeedBits:  64,
		StateBits: 19968,
		WidthBits: 53,
		Definition: "as ruby_rand_2_32. " +
			mtText +
			" " +
			mtGenrandText +
			" " +
			mtArrayText +
			" rand = ((out1>>5)*2^26+(out2>>6))/2^53; output the 53-bit integer.",
		Source: "Ruby 3.1.7 Random.new(seed).rand times 2^53",
	},
	setupSteps: 1900,
	open:       results(openRuby, double53),
}

func openRuby() stream { return new(rubyStream) }

type rubyStream struct{ mtStream }

func (g *rubyStream) seed(seed uint64) {
	if seed>>32 == 0 {
		g.mtStream.seed(seed)
		return
	}
	g.seedArray(seed)
}

func (g *rubyStream) heads(first, from uint64, n int, dst []uint64) {
	if rows := uint64(len(dst) / n); first+rows-1 < 1<<32 && first+rows > first {
		g.mtStream.heads(first, from, n, dst)
		return
	}
	oneByOne{g}.heads(first, from, n, dst)
}
