package buffstreams_test

import (
	"log"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/arpc-go/arpc/extension/buffstreams"
	"github.com/stretchr/testify/require"
)

// The programs that come with BuffStreams and those of its README, with the import
// path changed, strings for Protocol Buffers, ports that are free, and an end. The
// README's own do not all compile: it passes a second argument to Write.

type testController struct {
	enableLogging bool
	messages      *inbox
}

func (t *testController) TestCallback(bts []byte) error {
	if t.enableLogging {
		log.Print(string(bts))
	}
	return t.messages.add(bts)
}

func TestRow41_TheirProgramsRun(t *testing.T) {
	tc := &testController{enableLogging: false, messages: newInbox()}
	port, err := strconv.Atoi(strings.TrimPrefix(freeAddress(t), "127.0.0.1:"))
	require.NoError(t, err)
	cfg := buffstreams.TCPListenerConfig{
		MaxMessageSize: 2048,
		EnableLogging:  tc.enableLogging,
		Address:        buffstreams.FormatAddress("", strconv.Itoa(port)),
		Callback:       tc.TestCallback,
	}
	btl, err := buffstreams.ListenTCP(cfg)
	if err != nil {
		log.Print(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := btl.StartListening(); err != nil {
			log.Print(err)
		}
	}()
	sendAsTheirClient(t, port)
	tc.messages.wait(t, 100)
	btl.Close()
	next(t, "StartListening", ended)
}

func sendAsTheirClient(t *testing.T, port int) {
	cfg := &buffstreams.TCPConnConfig{
		MaxMessageSize: 2048,
		Address:        buffstreams.FormatAddress("127.0.0.1", strconv.Itoa(port)),
	}
	msgBytes := []byte("This is an intenntionally long and rambling sentence to pad out the size of the message.")
	count := 0
	btw, err := buffstreams.DialTCP(cfg)
	require.NoError(t, err)
	currentTime := time.Now()
	lastTime := currentTime
	for range 100 {
		_, err := btw.Write(msgBytes)
		if err != nil {
			log.Print("There was an error")
			log.Print(err)
		}
		count = count + 1
		if lastTime.Second() != currentTime.Second() {
			lastTime = currentTime
			count = 0
		}
		currentTime = time.Now()
	}
	require.NoError(t, btw.Close())
}

func TestRow41_TheirManagerRuns(t *testing.T) {
	tc := &testController{messages: newInbox()}
	address := freeAddress(t)
	bm := buffstreams.NewManager()
	err := bm.StartListening(buffstreams.TCPListenerConfig{Address: address, Callback: tc.TestCallback})
	require.NoError(t, err)
	err = bm.Dial(&buffstreams.TCPConnConfig{
		EnableLogging:  false, // as their README has it, and their code not
		MaxMessageSize: 4096,
		Address:        address,
	})
	require.NoError(t, err)
	bytesWritten, err := bm.Write(address, []byte("some bytes"))
	require.NoError(t, err)
	require.Equal(t, 10, bytesWritten)
	require.Equal(t, []string{"some bytes"}, tc.messages.wait(t, 1))
	err = bm.CloseWriter(address)
	require.NoError(t, err)
	err = bm.CloseListener(address)
	require.NoError(t, err)
}
