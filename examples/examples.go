// Package examples holds observed outputs of real software; see README.md.
package examples

import _ "embed" // of the files below

// PHP is ten calls of mt_rand(0, 999) in PHP 8.2, one a line.
//
//go:embed php-mt-rand.txt
var PHP []byte
