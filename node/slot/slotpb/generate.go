// Package slotpb has the frames between a node and its executors, generated
// from slot.proto.
package slotpb

//go:generate protoc --go_out=. --go_opt=paths=source_relative slot.proto
