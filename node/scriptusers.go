package node

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"

	"seedmesh/jobs"
	"seedmesh/scripts"
)

// Each slot's scripts run as a user of their own, a number that nothing else has:
// so they cannot signal, trace or read those of another slot, and all that runs
// under it can be ended. Where cluster.toml names no numbers, the data directory
// decides which they are, so that two nodes of one machine have others.
const (
	freeUsers      = 0x7000_0000 // from here on systemd lists the numbers as unused,
	freeUsersEnd   = 0x7fff_ff00 // up to here
	nestedUsers    = 20_000      // in a container that maps few numbers, from here on
	nestedUsersEnd = 60_000
)

// scriptUsers are the users of a node's slots. The zero one is the node's own user.
type scriptUsers struct {
	first  int // of slot 0; the others follow
	gid    int // 0 for the number of the user
	groups []uint32
}

// findUsers decides which users root's scripts run as; first is 0 where this
// machine does not have them.
func findUsers(c ScriptsConfig, dir string) (u scriptUsers, err error) {
	if u.gid, u.groups, err = groupsOf(c.User); err != nil {
		return u, err
	}
	from, end := uint64(c.FirstUser), uint64(c.FirstUser)+jobs.MaxSlots
	if from == 0 {
		h := sha256.Sum256([]byte(dir))
		for _, r := range [][2]uint64{{freeUsers, freeUsersEnd}, {nestedUsers, nestedUsersEnd}} {
			from = r[0] + binary.LittleEndian.Uint64(h[:])%((r[1]-r[0])/jobs.MaxSlots)*jobs.MaxSlots
			end = from + jobs.MaxSlots
			if mapped(from, end) {
				break
			}
		}
	}
	if mapped(from, end) {
		u.first = int(from)
	}
	return u, nil
}

// groupsOf lists the groups of a user, none where there is no such user.
func groupsOf(name string) (gid int, all []uint32, err error) {
	u, err := user.Lookup(name)
	if err != nil {
		return 0, nil, nil // there is none
	}
	list, err := u.GroupIds()
	if err != nil {
		return 0, nil, fmt.Errorf("configuration: the groups of scripts.user %q: %w", name, err)
	}
	for _, text := range list {
		id, err := strconv.ParseUint(text, 10, 31)
		if err != nil || id == 0 {
			return 0, nil, invalidConfig(fmt.Sprintf("scripts.user %q is in root's group", name), "name a user whose groups scripts may have, such as seedmesh-run")
		}
		all = append(all, uint32(id))
	}
	gid, err = strconv.Atoi(u.Gid)
	if err == nil && (gid == 0 || u.Uid == "0") {
		err = invalidConfig(fmt.Sprintf("scripts.user %q is no user for scripts", name), "name one that is not root, such as seedmesh-run")
	}
	return gid, all, err
}

// mapped tells whether all users of a range exist in this process's namespace.
func mapped(from, end uint64) bool {
	f, err := os.Open("/proc/self/uid_map")
	if err != nil {
		return errors.Is(err, os.ErrNotExist) // a kernel without namespaces has them all
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var inside, outside, count uint64
		if _, err := fmt.Sscan(lines.Text(), &inside, &outside, &count); err == nil && inside <= from && end <= inside+count {
			return true
		}
	}
	return false
}

// apply makes scripts of a place run as the user of a slot.
func (u scriptUsers) apply(p *scripts.Place, slot uint32) {
	p.UID, p.GID = -1, -1
	if u.first == 0 {
		return
	}
	p.UID, p.GID, p.Groups = u.first+int(slot), u.gid, u.groups
	if p.GID == 0 {
		p.GID = p.UID
	}
}
