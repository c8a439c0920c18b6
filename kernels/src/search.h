// The kernel. A work item looks at PER_ITEM neighbouring seeds and lists the
// candidates among them: those for which the search's own function, candidates,
// gives a number above 0.
//
// range: the launch's first seed, and how many it has.
// visited: for each work item the first seed it looked at, and how many.
// found: the number of candidates, then of the first MOST of them, in any order,
// how far they lie behind the first seed.

KERNEL void search(GLOBAL const u64 *range, GLOBAL u64 *visited, GLOBAL u32 *found) {
	u64 before = (u64)ITEM * PER_ITEM;
	if (before >= range[1])
		return;
	u64 base = range[0] + before, rest = range[1] - before;
	u32 n = rest < PER_ITEM ? (u32)rest : PER_ITEM;
	u32 done = 0;
	while (done < n) {
		UV hit = candidates(base + done);
		u32 here = n - done < LANES ? n - done : LANES;
		if (SOME(hit)) {
			u32 lanes[LANES];
			STORE(hit, lanes);
			for (u32 i = 0; i < here; i++) {
				if (lanes[i]) {
					u32 at = COUNT_UP(&found[0]);
					if (at < MOST)
						found[1 + at] = (u32)before + done + i;
				}
			}
		}
		done += here;
	}
	visited[2 * ITEM] = base;
	visited[2 * ITEM + 1] = done;
}
