// The first outputs of mt19937: KEPT of them, from number FROM on, below 227, so
// that no word is twisted twice. QUIRK takes the low bit of the other word for the
// twist, as PHP 5 did; PLAIN leaves out the tempering. A word above ACCEPTED is one
// that the generator would draw again.

#define BY(steps) (u32)(steps)[0]
#define REFUSES

FN UV grow(UV x, u32 i) { return (x ^ (x >> 30)) * 1812433253u + i; }

// made is the output of two neighbouring words and the one 397 behind the first.
FN UV made(UV here, UV after, UV far) {
	UV y = (here & 0x80000000u) | (after & 0x7fffffffu);
	UV odd = (QUIRK ? here : after) & 1u;
	y = far ^ (y >> 1) ^ (odd * 0x9908b0dfu);
	if (PLAIN)
		return y;
	y ^= y >> 11;
	y ^= (y << 7) & 0x9d2c5680u;
	y ^= (y << 15) & 0xefc60000u;
	return y ^ (y >> 18);
}

#ifndef GENERAL

typedef struct {
	UV here[KEPT + 1]; // words FROM and up of the initialisation
	UV far[KEPT];      // and those 397 further on
	u32 at;            // 1 for output FROM
} state;

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

FN UV output(const state *g, u32 i) { return made(g->here[i], g->here[i + 1], g->far[i]); }

FN UV word(const state *g) { return output(g, g->at - 1); }

// 1 where one of the words is drawn again.
FN UV refused(const state *g) {
	UV some = 0;
	for (u32 i = 0; i < KEPT; i++)
		some |= HIT(output(g, i) > ACCEPTED);
	return some;
}

#else // the outputs' number is not known: their words are made a second time

typedef struct {
	UV here, after, far;
	u32 at;   // number of the word after
	UV again; // 1 where a word so far is drawn again
} state;

FN void start(state *g, u64 first) {
	UV x = SEEDS(first);
	u32 i = 0;
	while (i < FROM)
		x = grow(x, ++i);
	g->after = x;
	g->at = i;
	for (u32 n = 0; n < 396; n++)
		x = grow(x, ++i);
	g->far = x;
	g->again = 0;
}

FN UV word(const state *g) { return made(g->here, g->after, g->far); }

FN void step(state *g, u32 n) {
	while (n-- > 0) {
		g->here = g->after;
		g->after = grow(g->after, ++g->at);
		g->far = grow(g->far, g->at + 396);
		if (ACCEPTED != ~0u)
			g->again |= HIT(word(g) > ACCEPTED);
	}
}

FN UV refused(const state *g) { return g->again; }

#endif
