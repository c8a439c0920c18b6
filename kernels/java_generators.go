package kernels

import "math/bits"

// The other generators of the Java library: SplittableRandom, and those of
// java.util.random since Java 17.

const staffordText = "Stafford13(z): z=(z^(z>>30))*0xBF58476D1CE4E5B9; z=(z^(z>>27))*0x94D049BB133111EB; z^(z>>31). GOLD=0x9E3779B97F4A7C15, SILV=0x6A09E667F3BCC909."

const murmur64Text = "Murmur64(z): z=(z^(z>>33))*0xFF51AFD7ED558CCD; z=(z^(z>>33))*0xC4CEB9FE1A85EC53; z^(z>>33)."

var javaSplittableNextint = definition{
	Generator: Generator{
		Name:       "java_splittable_nextint",
		Met:        "Java: new SplittableRandom(seed).nextInt(), as an unsigned number",
		SeedBits:   64,
		StateBits:  64,
		WidthBits:  32,
		Definition: "s=seed. s+=0x9E3779B97F4A7C15; z=s; z=(z^(z>>33))*0x62A9D9ED799705F5; output ((z^(z>>28))*0xCB24D0A5C88C35B3)>>32 (NOT the high half of nextLong)",
		Source:     "OpenJDK 17.0.21 SplittableRandom.nextInt()",
	},
	jumps:      true,
	setupSteps: 1,
	open:       openJavaSplittable,
	backward:   func() backStream { return weylBack(splitmix64Gap, javaMix32) },
}

var javaSplittableNextint1000 = definition{
	Generator: Generator{
		Name:       "java_splittable_nextint1000",
		Met:        "Java: new SplittableRandom(seed).nextInt(1000)",
		SeedBits:   64,
		StateBits:  64,
		WidthBits:  10,
		Definition: "s=seed. u=nextInt()>>>1 (see java_splittable_nextint); r=u%1000; repeat while u+999-r overflows signed 32",
		Source:     "OpenJDK 17.0.21 SplittableRandom.nextInt(1000)",
	},
	most:       999,
	setupSteps: 1,
	open:       results(openJavaSplittable, javaBounded(1000)),
}

var javaXoshiro256pp = definition{
	Generator: Generator{
		Name:      "java_xoshiro256pp",
		Met:       "Java 17: RandomGenerator.of(\"Xoshiro256PlusPlus\") with a seed",
		SeedBits:  64,
		StateBits: 256,
		WidthBits: 64,
		Definition: "s=seed^SILV; s0=Stafford13(s), then s+=GOLD before each of s1,s2,s3. " +
			staffordText +
			" out=rotl(s0+s3,23)+s0. " +
			xoshiro256Text,
		Source: "OpenJDK 17.0.21 RandomGeneratorFactory Xoshiro256PlusPlus",
	},
	setupSteps: 1,
	open:       func() stream { return stepped{&xoshiro256Engine{start: javaXoshiroFill, out: xoshiro256plusplusOut}} },
}

var javaXoroshiro128pp = definition{
	Generator: Generator{
		Name:      "java_xoroshiro128pp",
		Met:       "Java 17: RandomGenerator.of(\"Xoroshiro128PlusPlus\") with a seed",
		SeedBits:  64,
		StateBits: 128,
		WidthBits: 64,
		Definition: "s=seed^SILV; x0=Stafford13(s), x1=Stafford13(s+GOLD). " +
			staffordText +
			" out=rotl(x0+x1,17)+x0; x1^=x0; x0=rotl(x0,49)^x1^(x1<<21); x1=rotl(x1,28)",
		Source: "OpenJDK 17.0.21 RandomGeneratorFactory Xoroshiro128PlusPlus",
	},
	setupSteps: 1,
	open:       plain[javaXoroshiroEngine],
}

var javaL64x128mix = definition{
	Generator: Generator{
		Name:      "java_l64x128mix",
		Met:       "Java 17: RandomGenerator.getDefault family, L64X128MixRandom with a seed",
		SeedBits:  64,
		StateBits: 192,
		WidthBits: 64,
		Definition: "s=seed^SILV; a=Murmur64(s)|1; t=1; x0=Stafford13(s); x1=Stafford13(s+GOLD). " +
			staffordText +
			" " +
			murmur64Text +
			" out=Lea64(t+x0); t=t*0xD1342543DE82EF95+a; x1^=x0; x0=rotl(x0,24)^x1^(x1<<16); x1=rotl(x1,37). Lea64(z): twice z=(z^(z>>32))*0xDABA0B6EB09322E3; " +
			"then z^(z>>32)",
		Source: "OpenJDK 17.0.21 RandomGeneratorFactory L64X128MixRandom",
	},
	setupSteps: 1,
	open:       plain[javaL64x128Engine],
}

var javaL64x256mix = definition{
	Generator: Generator{
		Name:      "java_l64x256mix",
		Met:       "Java 17: L64X256MixRandom with a seed",
		SeedBits:  64,
		StateBits: 320,
		WidthBits: 64,
		Definition: "s=seed^SILV; a=Murmur64(s)|1; t=1; x0=Stafford13(s), then s+=GOLD before each of x1,x2,x3. " +
			staffordText +
			" " +
			murmur64Text +
			" out=Lea64(t+x0); t=t*0xD1342543DE82EF95+a; (x0..x3) step as xoshiro256: u=x1<<17; x2^=x0; x3^=x1; x1^=x2; x0^=x3; x2^=u; x3=rotl(x3,45). Lea64(z): " +
			"twice z=(z^(z>>32))*0xDABA0B6EB09322E3; then z^(z>>32)",
		Source: "OpenJDK 17.0.21 RandomGeneratorFactory L64X256MixRandom",
	},
	setupSteps: 1,
	open:       plain[javaL64x256Engine],
}

var javaL32x64mix = definition{
	Generator: Generator{
		Name:      "java_l32x64mix",
		Met:       "Java 17: RandomGenerator.getDefault(), L32X64MixRandom with a seed: nextInt(), as an unsigned number",
		SeedBits:  64,
		StateBits: 96,
		WidthBits: 32,
		Definition: "s=seed^SILV; a=Murmur32(hi32(s))|1; t=1; x0=Lea32(lo32(s)); x1=Lea32(lo32(s)+0x9E3779B9). Lea32(z): twice z=(z^(z>>16))*0xD36D884B; then z^(z>>16). " +
			"SILV=0x6A09E667F3BCC909. Murmur32(z): z=(z^(z>>16))*0x85EBCA6B; z=(z^(z>>13))*0xC2B2AE35; z^(z>>16). out=Lea32(t+x0); t=t*0xADB4A92D+a; x1^=x0; " +
			"x0=rotl32(x0,26)^x1^(x1<<9); x1=rotl32(x1,13)",
		Source: "OpenJDK 17.0.21 RandomGeneratorFactory L32X64MixRandom, nextInt()",
	},
	setupSteps: 1,
	open:       plain[javaL32x64Engine],
}

func openJavaSplittable() stream { return mapped{new(weylStream), javaMix32} }

// A weylStream counts by the gap of splitmix64, unmixed.
type weylStream struct{ s uint64 }

func (g *weylStream) seed(seed uint64) { g.s = seed }

func (g *weylStream) skip(n uint64) { g.s += n * splitmix64Gap }

func (g *weylStream) fill(dst []uint64) {
	for i := range dst {
		g.s += splitmix64Gap
		dst[i] = g.s
	}
}

func javaMix32(z uint64) uint64 {
	z = (z ^ z>>33) * 0x62A9D9ED799705F5
	return (z ^ z>>28) * 0xCB24D0A5C88C35B3 >> 32
}

// javaBounded is nextInt(n) over 32-bit outputs: their high 31 bits modulo n,
// drawn again from where a complete set of residues ends.
func javaBounded(n uint64) call {
	end := 1<<31 - 1<<31%n
	return func(o *outputs) uint64 {
		for {
			if u := o.next() >> 1; u < end {
				return u % n
			}
		}
	}
}

// javaSilver is XORed to the seeds of the newer generators.
const javaSilver = 0x6A09E667F3BCC909

func stafford13(z uint64) uint64 {
	z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
	z = (z ^ z>>27) * 0x94D049BB133111EB
	return z ^ z>>31
}

func murmur64(z uint64) uint64 {
	z = (z ^ z>>33) * 0xFF51AFD7ED558CCD
	z = (z ^ z>>33) * 0xC4CEB9FE1A85EC53
	return z ^ z>>33
}

func lea64(z uint64) uint64 {
	z = (z ^ z>>32) * 0xDABA0B6EB09322E3
	z = (z ^ z>>32) * 0xDABA0B6EB09322E3
	return z ^ z>>32
}

func murmur32(z uint32) uint32 {
	z = (z ^ z>>16) * 0x85EBCA6B
	z = (z ^ z>>13) * 0xC2B2AE35
	return z ^ z>>16
}

func lea32(z uint32) uint32 {
	z = (z ^ z>>16) * 0xD36D884B
	z = (z ^ z>>16) * 0xD36D884B
	return z ^ z>>16
}

func javaXoshiroFill(seed uint64) xoshiro256 {
	fill := splitmix64Stream{(seed ^ javaSilver) - splitmix64Gap} // its first output is of the seed itself
	return xoshiro256{fill.next(), fill.next(), fill.next(), fill.next()}
}

type javaXoroshiroEngine struct{ s0, s1 uint64 }

func (g *javaXoroshiroEngine) seed(seed uint64) {
	s := seed ^ javaSilver
	g.s0, g.s1 = stafford13(s), stafford13(s+splitmix64Gap)
}

func (g *javaXoroshiroEngine) next() uint64 {
	v := bits.RotateLeft64(g.s0+g.s1, 17) + g.s0
	g.s1 ^= g.s0
	g.s0 = bits.RotateLeft64(g.s0, 49) ^ g.s1 ^ g.s1<<21
	g.s1 = bits.RotateLeft64(g.s1, 28)
	return v
}

// javaL64 is the congruential half of the L64 generators.
type javaL64 struct{ a, t uint64 }

func (l *javaL64) seed(seed uint64) { *l = javaL64{murmur64(seed^javaSilver) | 1, 1} }

func (l *javaL64) step() { l.t = l.t*0xD1342543DE82EF95 + l.a }

type javaL64x128Engine struct {
	javaL64
	x xoroshiro128
}

func (g *javaL64x128Engine) seed(seed uint64) {
	g.javaL64.seed(seed)
	s := seed ^ javaSilver
	g.x = xoroshiro128{stafford13(s), stafford13(s + splitmix64Gap)}
}

func (g *javaL64x128Engine) next() uint64 {
	v := lea64(g.t + g.x.s0)
	g.javaL64.step()
	g.x.step()
	return v
}

type javaL64x256Engine struct {
	javaL64
	x xoshiro256
}

func (g *javaL64x256Engine) seed(seed uint64) {
	g.javaL64.seed(seed)
	g.x = javaXoshiroFill(seed)
}

func (g *javaL64x256Engine) next() uint64 {
	v := lea64(g.t + g.x.s0)
	g.javaL64.step()
	g.x.step()
	return v
}

type javaL32x64Engine struct{ a, t, x0, x1 uint32 }

func (g *javaL32x64Engine) seed(seed uint64) {
	s := seed ^ javaSilver
	*g = javaL32x64Engine{murmur32(uint32(s>>32)) | 1, 1, lea32(uint32(s)), lea32(uint32(s) + 0x9E3779B9)}
}

func (g *javaL32x64Engine) next() uint64 {
	v := lea32(g.t + g.x0)
	g.t = g.t*0xADB4A92D + g.a
	g.x1 ^= g.x0
	g.x0 = bits.RotateLeft32(g.x0, 26) ^ g.x1 ^ g.x1<<9
	g.x1 = bits.RotateLeft32(g.x1, 13)
	return uint64(v)
}
