package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"seedmesh/scripts"
)

// maxItems bounds an input that is split, in bytes.
const maxItems = scripts.MaxListBytes

// split reads --split and --chunk-size, and has the items shipped.
func (s *shipment) split(name, size string) (*scripts.Split, error) {
	sp := &scripts.Split{Format: strings.TrimPrefix(filepath.Ext(name), "."), Name: filepath.ToSlash(filepath.Clean(name))}
	if scripts.CheckPath(sp.Name) != nil {
		sp.Name = filepath.Base(sp.Name)
	}
	if !slices.Contains(scripts.Formats(), sp.Format) {
		return nil, &usageError{what: fmt.Sprintf("--split %q is neither .json, .jsonl nor .csv", clip(name)), next: "name a JSON array, JSON Lines, or CSV with a header"}
	}
	if size != "auto" {
		n, err := strconv.ParseUint(size, 10, 32)
		if err != nil || n == 0 {
			return nil, &usageError{what: fmt.Sprintf("--chunk-size %q is no number of items", clip(size)), next: "such as --chunk-size 1000, or --chunk-size auto"}
		}
		sp.Size = n
	}
	header, items, err := readItems(name, sp.Format)
	if err != nil {
		return nil, err
	}
	if len(items) == 0 {
		return nil, &usageError{what: name + " has no items", next: "there is nothing to do"}
	}
	var b bytes.Buffer
	if err := scripts.WriteItems(&b, header, items); err != nil {
		return nil, err
	}
	s.parted = filepath.Clean(name)
	sp.Items, sp.Bytes, sp.Digest = uint64(len(items)), int64(b.Len()), sha256.Sum256(b.Bytes())
	return sp, s.keep(b.Bytes(), sp.Digest)
}

// readItems reads the header and the items of an input.
func readItems(name, format string) (header []byte, items [][]byte, err error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, nil, inputError("the input", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxItems+1))
	if err != nil {
		return nil, nil, inputError("the input", err)
	}
	if len(b) > maxItems {
		return nil, nil, &usageError{what: fmt.Sprintf("%s has more than %d bytes", name, int64(maxItems)), next: "split it into several jobs"}
	}
	switch format {
	case "json":
		items, err = jsonItems(b)
	case "jsonl":
		items, err = lineItems(b)
	default:
		header, items, err = csvItems(b)
	}
	if err != nil {
		return nil, nil, &usageError{what: fmt.Sprintf("%s cannot be split: %v", name, err), next: "correct it, or split it yourself"}
	}
	return header, items, nil
}

func jsonItems(b []byte) (items [][]byte, err error) {
	var list []json.RawMessage
	if err := json.Unmarshal(b, &list); err != nil {
		return nil, fmt.Errorf("it is not a JSON array: %w", err)
	}
	for _, item := range list {
		items = append(items, item)
	}
	return items, nil
}

func lineItems(b []byte) (items [][]byte, err error) {
	for line := range bytes.SplitSeq(b, []byte("\n")) {
		if line = bytes.TrimSpace(line); len(line) > 0 {
			if !json.Valid(line) {
				return nil, fmt.Errorf("the line %.60q is not JSON", line)
			}
			items = append(items, line)
		}
	}
	return items, nil
}

// csvItems cuts between records: a field may have lines of its own.
func csvItems(b []byte) (header []byte, items [][]byte, err error) {
	r := csv.NewReader(bytes.NewReader(b))
	r.FieldsPerRecord, r.ReuseRecord = -1, true
	for from := int64(0); ; {
		_, err := r.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, nil, err
		}
		to := r.InputOffset()
		record := bytes.Trim(b[from:to], "\r\n")
		if from = to; header == nil {
			header = record
			continue
		}
		items = append(items, record)
	}
	return header, items, nil
}
