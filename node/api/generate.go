package api

//go:generate protoc --go_out=. --go_opt=module=seedmesh/node/api --connect-go_out=. --connect-go_opt=module=seedmesh/node/api mesh.proto
