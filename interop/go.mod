module github.com/arpc-go/arpc/interop

go 1.26.0

replace github.com/arpc-go/arpc => ../

require (
	github.com/arpc-go/arpc v0.0.0
	github.com/lesismal/arpc v1.2.17
	github.com/stretchr/testify v1.12.1
)

require (
	github.com/json-iterator/go v1.1.12 // indirect
	github.com/klauspost/compress v1.20.3 // indirect
	github.com/modern-go/concurrent v0.0.0-20180228061459-e0a39a4cb421 // indirect
	github.com/modern-go/reflect2 v1.0.2 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
)
