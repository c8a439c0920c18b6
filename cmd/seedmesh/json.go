package main

import (
	"encoding/json"
	"io"
	"math"
	"strconv"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// writeJSON writes a message of the API as one line of JSON, as scripts may rely
// on it: every field is there, in the order and under the names of mesh.proto,
// and lists that are empty are [].
func writeJSON(w io.Writer, m proto.Message) error {
	_, err := w.Write(append(appendMessage(nil, m.ProtoReflect()), '\n'))
	return err
}

// writeJSONList writes messages as one JSON array on one line.
func writeJSONList[M proto.Message](w io.Writer, list []M) error {
	b := []byte{'['}
	for i, m := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendMessage(b, m.ProtoReflect())
	}
	_, err := w.Write(append(b, "]\n"...))
	return err
}

// writeValue writes a value of this package as one line of JSON.
func writeValue(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = w.Write(append(b, '\n'))
	return err
}

func appendMessage(b []byte, m protoreflect.Message) []byte {
	b = append(b, '{')
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, string(f.Name()))
		b = append(b, ':')
		if !f.IsList() {
			b = appendValue(b, f, m.Get(f))
			continue
		}
		b = append(b, '[')
		for j, list := 0, m.Get(f).List(); j < list.Len(); j++ {
			if j > 0 {
				b = append(b, ',')
			}
			b = appendValue(b, f, list.Get(j))
		}
		b = append(b, ']')
	}
	return append(b, '}')
}

// appendValue writes one value. The API has no maps, enumerations or oneofs.
func appendValue(b []byte, f protoreflect.FieldDescriptor, v protoreflect.Value) []byte {
	switch f.Kind() {
	case protoreflect.MessageKind:
		return appendMessage(b, v.Message())
	case protoreflect.StringKind:
		return appendString(b, v.String())
	case protoreflect.BoolKind:
		return strconv.AppendBool(b, v.Bool())
	case protoreflect.DoubleKind, protoreflect.FloatKind:
		return appendFloat(b, v.Float())
	case protoreflect.BytesKind:
		quoted, err := json.Marshal(v.Bytes())
		if err != nil {
			panic(err) // bytes always marshal
		}
		return append(b, quoted...)
	case protoreflect.Uint32Kind, protoreflect.Uint64Kind, protoreflect.Fixed32Kind, protoreflect.Fixed64Kind:
		return strconv.AppendUint(b, v.Uint(), 10)
	case protoreflect.Int32Kind, protoreflect.Int64Kind, protoreflect.Sint32Kind, protoreflect.Sint64Kind,
		protoreflect.Sfixed32Kind, protoreflect.Sfixed64Kind:
		return strconv.AppendInt(b, v.Int(), 10)
	case protoreflect.EnumKind, protoreflect.GroupKind:
	}
	panic("the API has a field of a kind that has no JSON form: " + string(f.FullName()))
}

// appendFloat writes a number; JSON has no infinities, they are null.
func appendFloat(b []byte, v float64) []byte {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return append(b, "null"...)
	}
	number, err := json.Marshal(v)
	if err != nil {
		panic(err) // finite numbers always marshal
	}
	return append(b, number...)
}

func appendString(b []byte, s string) []byte {
	quoted, err := json.Marshal(s)
	if err != nil {
		panic(err) // strings always marshal
	}
	return append(b, quoted...)
}
