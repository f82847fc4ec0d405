// java Uploads CLIENT URL BYTES CODING [BYTES CODING ...]: uploads so much each time, prints the status, or 0.
// CODING is fixed or chunked.

import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.net.HttpURLConnection;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;

public class Uploads {
    private static final byte[] PIECE = new byte[65536];

    public static void main(String[] arguments) throws Exception {
        for (int at = 2; at < arguments.length; at += 2) {
            int size = Integer.parseInt(arguments[at]);
            boolean chunked = arguments[at + 1].equals("chunked");
            URI uri = URI.create(arguments[1]);
            int status;
            try {
                status = arguments[0].equals("HttpClient") ? modern(uri, size, chunked) : classic(uri, size, chunked);
            } catch (IOException error) {
                System.err.println(error);
                status = 0;
            }
            System.out.println(status);
        }
    }

    private static int classic(URI uri, int size, boolean chunked) throws IOException {
        HttpURLConnection connection = (HttpURLConnection) uri.toURL().openConnection();
        connection.setRequestMethod("POST");
        connection.setDoOutput(true);
        if (chunked) {
            connection.setChunkedStreamingMode(PIECE.length);
        } else {
            connection.setFixedLengthStreamingMode(size);
        }
        try (OutputStream body = connection.getOutputStream()) {
            for (int sent = 0; sent < size; sent += PIECE.length) {
                body.write(PIECE);
            }
        }
        return connection.getResponseCode();
    }

    private static int modern(URI uri, int size, boolean chunked) throws IOException, InterruptedException {
        HttpRequest.BodyPublisher body = chunked
                ? HttpRequest.BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(new byte[size]))
                : HttpRequest.BodyPublishers.ofByteArray(new byte[size]);
        HttpRequest request = HttpRequest.newBuilder(uri).POST(body).build();
        return HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofByteArray()).statusCode();
    }
}
