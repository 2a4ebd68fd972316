//! The endpoint over real TLS: real `rumqttc` clients and clients that write raw bytes.
