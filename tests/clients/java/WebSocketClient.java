import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.WebSocket;
import java.nio.ByteBuffer;
import java.util.HexFormat;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

/**
 * The WebSocket client of the JDK, which sends "Content-Length: 0" with its handshake.
 *
 * <pre>java WebSocketClient.java URI SUBPROTOCOL MESSAGE WANTED ...</pre>
 *
 * For each group of four arguments it opens a socket, sends the message, reads until a message holds WANTED, closes,
 * and prints one line: "ok", or what happened instead. "-" stands for no subprotocol and for no message, and a message
 * that begins with "0x" is sent as binary. Binary messages are read as hexadecimal digits.
 */
public class WebSocketClient implements WebSocket.Listener {
    private static final long PATIENCE_S = 30;

    private final LinkedBlockingQueue<String> events = new LinkedBlockingQueue<>();
    private final StringBuilder message = new StringBuilder();

    public static void main(String[] arguments) {
        HttpClient client = HttpClient.newHttpClient();
        for (int i = 0; i < arguments.length; i += 4) {
            String outcome;
            try {
                outcome = talk(client, arguments[i], arguments[i + 1], arguments[i + 2], arguments[i + 3]);
            } catch (Exception error) {
                Throwable cause = error.getCause() == null ? error : error.getCause();
                outcome = cause.toString().replace('\n', ' ');
            }
            System.out.println(outcome);
        }
        System.exit(0);  // the client's threads need not be waited for
    }

    private static String talk(HttpClient client, String uri, String subprotocol, String message, String wanted)
            throws Exception {
        WebSocketClient listener = new WebSocketClient();
        WebSocket.Builder builder = client.newWebSocketBuilder();
        if (!subprotocol.equals("-")) {
            builder.subprotocols(subprotocol);
        }
        WebSocket socket = builder.buildAsync(URI.create(uri), listener).get(PATIENCE_S, TimeUnit.SECONDS);
        if (!subprotocol.equals("-") && !socket.getSubprotocol().equals(subprotocol)) {
            return "the subprotocol is '" + socket.getSubprotocol() + "'";
        }
        if (message.startsWith("0x")) {
            ByteBuffer bytes = ByteBuffer.wrap(HexFormat.of().parseHex(message.substring(2)));
            socket.sendBinary(bytes, true).get(PATIENCE_S, TimeUnit.SECONDS);
        } else if (!message.equals("-")) {
            socket.sendText(message, true).get(PATIENCE_S, TimeUnit.SECONDS);
        }
        String event;
        do {
            event = listener.events.poll(PATIENCE_S, TimeUnit.SECONDS);
            if (event == null || event.startsWith("end ")) {
                return "no message with " + wanted + " but " + event;
            }
        } while (!event.contains(wanted));
        socket.sendClose(WebSocket.NORMAL_CLOSURE, "").get(PATIENCE_S, TimeUnit.SECONDS);
        do {
            event = listener.events.poll(PATIENCE_S, TimeUnit.SECONDS);
        } while (event != null && !event.startsWith("end "));
        return event != null && event.equals("end 1000") ? "ok" : "closed with " + event;
    }

    @Override
    public CompletionStage<?> onText(WebSocket socket, CharSequence data, boolean last) {
        message.append(data);
        return next(socket, last);
    }

    @Override
    public CompletionStage<?> onBinary(WebSocket socket, ByteBuffer data, boolean last) {
        byte[] bytes = new byte[data.remaining()];
        data.get(bytes);
        message.append(HexFormat.of().formatHex(bytes));
        return next(socket, last);
    }

    private CompletionStage<?> next(WebSocket socket, boolean last) {
        if (last) {
            events.add(message.toString());
            message.setLength(0);
        }
        socket.request(1);
        return CompletableFuture.completedStage(null);
    }

    @Override
    public CompletionStage<?> onClose(WebSocket socket, int code, String reason) {
        events.add("end " + code);
        return null;
    }

    @Override
    public void onError(WebSocket socket, Throwable error) {
        events.add("end " + error);
    }
}
