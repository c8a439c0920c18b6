// The first outputs of mt19937: KEPT of them, from number FROM on, below 227, so
// that no word is twisted twice. QUIRK takes the low bit of the other word for the
// twist, as PHP 5 did; PLAIN leaves out the tempering. A word above ACCEPTED is one
// that the generator would draw again.

typedef struct {
	UV here[KEPT + 1]; // words FROM and up of the initialisation
	UV far[KEPT];      // and those 397 further on
	u32 at;            // 1 for output FROM
} state;

FN UV grow(UV x, u32 i) { return (x ^ (x >> 30)) * 1812433253u + i; }

FN void start(state *g, u64 first) {
	UV x = SEEDS(first);
	u32 i = 0;
	while (i < FROM)
		x = grow(x, ++i);
	g->here[0] = x;
	while (i < FROM + KEPT) {
		x = grow(x, ++i);
		g->here[i - FROM] = x;
	}
	while (i < FROM + 396)
		x = grow(x, ++i);
	while (i < FROM + 396 + KEPT) {
		x = grow(x, ++i);
		g->far[i - FROM - 397] = x;
	}
	g->at = 0;
}

FN void step(state *g, u32 n) { g->at += n; }

FN UV output(const state *g, u32 i) {
	UV here = g->here[i], after = g->here[i + 1];
	UV y = (here & 0x80000000u) | (after & 0x7fffffffu);
	UV odd = (QUIRK ? here : after) & 1u;
	y = g->far[i] ^ (y >> 1) ^ (odd * 0x9908b0dfu);
	if (PLAIN)
		return y;
	y ^= y >> 11;
	y ^= (y << 7) & 0x9d2c5680u;
	y ^= (y << 15) & 0xefc60000u;
	return y ^ (y >> 18);
}

FN UV word(const state *g) { return output(g, g->at - 1); }

// 1 where one of the words is drawn again.
FN UV refused(const state *g) {
	UV some = 0;
	for (u32 i = 0; i < KEPT; i++)
		some |= HIT(output(g, i) > ACCEPTED);
	return some;
}
