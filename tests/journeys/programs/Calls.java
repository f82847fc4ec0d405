// java Calls CLIENT BASE METHOD PATH [METHOD PATH ...]: makes each call once and prints its status, or 0.

import java.io.IOException;
import java.io.InputStream;
import java.net.HttpURLConnection;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;

public class Calls {
    private static final byte[] BODY = "{\"amount\": 1}".getBytes();
    private static final HttpClient CLIENT = HttpClient.newHttpClient();

    public static void main(String[] arguments) throws Exception {
        for (int at = 2; at < arguments.length; at += 2) {
            String method = arguments[at];
            URI uri = URI.create(arguments[1] + arguments[at + 1]);
            int status;
            try {
                status = arguments[0].equals("HttpClient") ? modern(method, uri) : classic(method, uri);
            } catch (IOException error) {
                status = 0;
            }
            System.out.println(status);
        }
    }

    private static int classic(String method, URI uri) throws IOException {
        HttpURLConnection connection = (HttpURLConnection) uri.toURL().openConnection();
        connection.setRequestMethod(method);
        if (method.equals("POST")) {
            connection.setDoOutput(true);
            connection.getOutputStream().write(BODY);
        }
        int status = connection.getResponseCode();
        try (InputStream body = status < 400 ? connection.getInputStream() : connection.getErrorStream()) {
            body.readAllBytes();
        }
        return status;
    }

    private static int modern(String method, URI uri) throws IOException, InterruptedException {
        HttpRequest.BodyPublisher body = method.equals("POST")
                ? HttpRequest.BodyPublishers.ofByteArray(BODY)
                : HttpRequest.BodyPublishers.noBody();
        HttpRequest request = HttpRequest.newBuilder(uri).method(method, body).build();
        return CLIENT.send(request, HttpResponse.BodyHandlers.ofByteArray()).statusCode();
    }
}
