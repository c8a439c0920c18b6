package kernels

// Lua 5.4 has xoshiro256** with a seeding of its own.

var luaRandom64 = definition{
	Generator: Generator{
		Name:      "lua_random64",
		Met:       "Lua 5.4: math.randomseed(seed); math.random(0), as an unsigned number",
		SeedBits:  63,
		StateBits: 256,
		WidthBits: 64,
		Definition: "s0=seed (integer), s1=0xff, s2=0, s3=0; 16 outputs discarded. xoshiro256**: out=rotl(s1*5,7)*9. " +
			xoshiro256Text,
		Source: "Lua 5.4.4 math.randomseed(seed); math.random(0)",
	},
	setupSteps: 17,
	open:       openLua,
}

var luaRandom0999 = definition{
	Generator: Generator{
		Name:      "lua_random_0_999",
		Met:       "Lua 5.4: math.randomseed(seed); math.random(0, 999)",
		SeedBits:  63,
		StateBits: 256,
		WidthBits: 10,
		Definition: "as lua_random64. math.random(0,999): r=out&1023 (low bits); redraw while r>999. xoshiro256**: out=rotl(s1*5,7)*9. " +
			xoshiro256Text,
		Source: "Lua 5.4.4 math.random(0,999)",
	},
	setupSteps: 17,
	most:       999,
	open:       results(openLua, maskedBelow(1000, 1023)),
}

var luaRandomFloat53 = definition{
	Generator: Generator{
		Name:      "lua_random_float53",
		Met:       "Lua 5.4: math.randomseed(seed); math.random(), times 2^53",
		SeedBits:  63,
		StateBits: 256,
		WidthBits: 53,
		Definition: "as lua_random64. math.random() = (out>>11)/2^53; output the 53-bit integer. xoshiro256**: out=rotl(s1*5,7)*9. " +
			xoshiro256Text,
		Source: "Lua 5.4.4 math.random() times 2^53",
	},
	setupSteps: 17,
	open:       func() stream { return mapped{openLua(), top53} },
}

func openLua() stream {
	return stepped{&xoshiro256Engine{start: luaStart, out: xoshiro256starstarOut}}
}

func luaStart(seed uint64) xoshiro256 {
	s := xoshiro256{s0: seed, s1: 0xff}
	for range 16 {
		s.step()
	}
	return s
}

// top53 is the numerator of a double below 1 made of a 64-bit output.
func top53(output uint64) uint64 { return output >> 11 }
