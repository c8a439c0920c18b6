package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
)

// wrongType says, of a file in JSON, which key has a value of the wrong kind, and what it
// must be. Other errors stay as they are.
func wrongType(err error) error {
	var wrong *json.UnmarshalTypeError
	switch {
	case err != nil && strings.HasPrefix(err.Error(), "json: invalid number literal"):
		return errors.New("a text is where a number must be")
	case !errors.As(err, &wrong):
		return err
	case wrong.Field == "":
		return fmt.Errorf("where %s must be it has a %s", kindOf(wrong.Type), wrong.Value)
	}
	key := wrong.Field[strings.LastIndexByte(wrong.Field, '.')+1:]
	form, special := map[string]string{
		"args": `a list, such as ["--seed", 5]`, "timeout": "a number of seconds, such as 300", "needs": `a list of job_ids, such as ["a", "b:any"]`,
	}[key]
	if !special {
		form = kindOf(wrong.Type)
	}
	return fmt.Errorf("the value of %s is a %s, and must be %s", key, wrong.Value, form)
}

// kindOf says what a value of a type looks like in JSON.
func kindOf(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "a text in quotation marks"
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int32, reflect.Int64:
		return "a whole number"
	case reflect.Uint, reflect.Uint8, reflect.Uint32, reflect.Uint64:
		return "a whole number from 0 on"
	case reflect.Float64:
		return "a number"
	case reflect.Slice, reflect.Array:
		return "a list"
	default:
		return "an object"
	}
}
